#ifndef LIGER_CLIENT_TERMINAL_H_
#define LIGER_CLIENT_TERMINAL_H_

namespace liger::client {

// Columns of the terminal behind `fd` as it is now, 0 when there is none.
int TerminalColumns(int fd);

}  // namespace liger::client

#endif  // LIGER_CLIENT_TERMINAL_H_
