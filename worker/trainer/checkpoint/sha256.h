#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_SHA256_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_SHA256_H_

#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace liger::trainer {

// SHA-256 of a stream of bytes (OpenSSL).
class Sha256 {
 public:
  Sha256();
  void Update(std::string_view bytes);
  // 64 lower-case hexadecimal digits. Call once.
  std::string Hex();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_SHA256_H_
