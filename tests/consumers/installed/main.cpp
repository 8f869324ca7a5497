// Every header is installed: the whole library is included; the program itself is the shared one.
#include <m3i/imaging.hpp>
#include <m3i/m3i.hpp>
#include <m3i/metrics.hpp>
#include <m3i/text.hpp>
#if __has_include(<nlohmann/json.hpp>)
#include <m3i/train.hpp>
#endif

#include "../hello.cpp"
