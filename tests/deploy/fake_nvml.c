// libnvidia-ml.so.1 with one GPU that does something, so that a host without a driver has the series of one. The
// names and the layouts are those of worker/agent/nvml.cpp.
#include <string.h>

struct memory {
  unsigned long long total, free, used;
};
struct utilization {
  unsigned int gpu, memory;
};
static int gpu;

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
