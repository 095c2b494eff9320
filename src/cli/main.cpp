#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "app.h"

// Note [First line]
// libtorch's static initialisers take 130 ms and more, from a cold disk seconds, all of it before
// main(). On a terminal nobody should look at nothing for so long, so a function in .preinit_array,
// which the loader calls before any initialiser, says what is going on; main() takes the words away
// again. Elsewhere (pipes, files) nobody is waiting, and standard error holds whole lines only.
namespace {

constexpr std::string_view kNotice = "loading libtorch ...", kErase = "\r\x1b[K";

bool notice_shown = false;

// What follows runs before the C++ library, the sanitizers' run-times and every global of ours are
// set up: system calls and values on the stack only.
[[gnu::no_sanitize("address", "undefined")]] bool equal(const char* a, const char* b) {
  for (; *a != '\0' && *a == *b; ++a) ++b;
  return *a == *b;
}

[[gnu::no_sanitize("address", "undefined")]] bool asks_for_silence(const char* argument) {
  return argument[0] == '-' && (argument[1] == 'q' || argument[1] == 'h' ||
                                equal(argument, "--quiet") || equal(argument, "--help"));
}

[[gnu::no_sanitize("address", "undefined")]] void show_notice(int argc, char** argv,
                                                              char** environment) {
  termios settings;
  if (argc < 2 ||
      !(equal(argv[1], "generate") || equal(argv[1], "batch") || equal(argv[1], "grid")) ||
      ::ioctl(STDERR_FILENO, TCGETS, &settings) != 0)
    return;
  for (int i = 2; i < argc; ++i)
    if (asks_for_silence(argv[i])) return;
  for (; *environment != nullptr; ++environment)
    if (equal(*environment, "TERM=dumb")) return;  // could not take the words away again
  notice_shown = ::write(STDERR_FILENO, kNotice.data(), kNotice.size()) > 0;
}

__attribute__((section(".preinit_array"),
               used)) void (*const kBeforeInitialisers)(int, char**, char**) = show_notice;

}  // namespace

int main(int argc, char** argv) {
  if (notice_shown) (void)!::write(STDERR_FILENO, kErase.data(), kErase.size());
  const int code = molar::cli::run_program({argv + (argc > 0 ? 1 : 0), argv + argc});
#ifdef __SANITIZE_ADDRESS__
  return code;  // leaks are looked for after main()
#else
  // Nothing of ours is left to do, and taking libtorch's registries apart takes 50 ms and more.
  std::fflush(nullptr);
  std::_Exit(code);
#endif
}
