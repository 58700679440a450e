// libnvidia-ml.so.1 with one GPU that does something, so that a host without a driver has the series of one. The
// names and the layouts are those of worker/agent/nvml.cpp. What the file $FAKE_NVML_FAULT says happens to the GPU:
// "xid N", "ecc N" (errors in all) or "lost".
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory {
  unsigned long long total, free, used;
};
struct utilization {
  unsigned int gpu, memory;
};
struct event {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};
static int gpu;
static int xid_told;

// N of the file's "KIND N"; 0: it says something else.
static int fault(const char* kind) {
  char word[16] = "";
  int number = 1;
  const char* path = getenv("FAKE_NVML_FAULT");
  FILE* file = path == NULL ? NULL : fopen(path, "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%15s %d", word, &number) < 1) word[0] = 0;
  fclose(file);
  return strcmp(word, kind) == 0 ? number : 0;
}

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 1;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &gpu;
  return index == 0 ? 0 : 2;
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  *device = &gpu;
  if (fault("lost")) return 15;
  return strcmp(uuid, "GPU-fake") == 0 ? 0 : 6;
}
int nvmlDeviceGetUUID(void* device, char* uuid, unsigned size) {
  (void)device;
  strncpy(uuid, "GPU-fake", size);
  return 0;
}
int nvmlDeviceGetName(void* device, char* name, unsigned size) {
  (void)device;
  strncpy(name, "Fake GPU", size);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, struct memory* memory) {
  (void)device;
  memory->total = 8ull << 30;
  memory->used = 2ull << 30;
  memory->free = memory->total - memory->used;
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* device, struct utilization* rates) {
  (void)device;
  rates->gpu = 50;
  rates->memory = 25;
  return 0;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
  (void)device;
  *milliwatts = 150000;
  return 0;
}
int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* celsius) {
  (void)device;
  *celsius = sensor == 0 ? 40 : 0;
  return 0;
}
int nvmlDeviceGetTotalEccErrors(void* device, int type, int counter, unsigned long long* count) {
  (void)device;
  *count = type == 1 && counter == 0 ? (unsigned long long)fault("ecc") : 0;
  return 0;
}
int nvmlEventSetCreate(void** set) {
  *set = &gpu;
  return 0;
}
int nvmlEventSetFree(void* set) {
  (void)set;
  return 0;
}
int nvmlDeviceRegisterEvents(void* device, unsigned long long types, void* set) {
  (void)device;
  (void)set;
  return types == 8 ? 0 : 2;
}
int nvmlEventSetWait_v2(void* set, struct event* event, unsigned milliseconds) {
  (void)set;
  (void)milliseconds;
  const int xid = fault("xid");
  if (xid == 0 || xid == xid_told) return 10;
  xid_told = xid;
  event->device = &gpu;
  event->type = 8;
  event->data = (unsigned long long)xid;
  return 0;
}
