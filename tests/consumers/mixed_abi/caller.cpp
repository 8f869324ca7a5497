#include "m3i/core/tensor.hpp"

m3i::Index count(const m3i::Tensor<float>& x);
int main() { return count(m3i::Tensor<float>(m3i::Shape{2, 3})) == 6 ? 0 : 1; }
