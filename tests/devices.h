#ifndef LIGER_TESTS_DEVICES_H_
#define LIGER_TESTS_DEVICES_H_

namespace liger {

// Whether tests whose jobs run on either kind of device run them on GPUs: LIGER_TEST_DEVICE_KIND is
// DEVICE_KIND_CUDA (tests/gpu/run_all). Another value than that and DEVICE_KIND_CPU aborts.
bool OnGpus();
// As the driver shows them.
int GpusOfThisHost();

}  // namespace liger

#endif  // LIGER_TESTS_DEVICES_H_
