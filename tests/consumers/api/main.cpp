#include <cstdio>
#include <exception>

#include "m3i/api.hpp"

#if defined(M3I_CUDA) || __cplusplus >= 202002L
#error "m3i::api must leave flags and definitions of its users alone"
#endif

int main() {
  try {
    const m3i::api::Model model("there is none.safetensors");
  } catch (const std::exception& error) {
    std::printf("%s (as expected)\nbuilt for %s, trains by", error.what(), m3i::api::build().c_str());
    for (const auto& program : m3i::api::programs()) std::printf(" %s", program.c_str());
    std::printf("\n");
    return 0;
  }
  return 1;
}
