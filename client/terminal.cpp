#include "client/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace liger::client {

int TerminalColumns(int fd) {
  if (!isatty(fd)) return 0;
  winsize size = {};
  const bool known = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace liger::client
