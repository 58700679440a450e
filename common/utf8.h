#ifndef LIGER_COMMON_UTF8_H_
#define LIGER_COMMON_UTF8_H_

#include <string>
#include <string_view>

#include "google/protobuf/message.h"

namespace liger {

// `bytes` with everything that is not UTF-8 replaced by U+FFFD: a protobuf
// string may not hold anything else, and messages quote files of any encoding.
std::string ToValidUtf8(std::string_view bytes);

// The same for every string in the message. A reader refuses a whole message
// for one bad byte in it.
void MakeStringsValid(google::protobuf::Message* message);

}  // namespace liger

#endif  // LIGER_COMMON_UTF8_H_
