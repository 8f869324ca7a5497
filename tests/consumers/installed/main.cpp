// Every header is installed: the whole library is included; the program itself is the shared one.
#include <m3i/m3i.hpp>

#include "../hello.cpp"
