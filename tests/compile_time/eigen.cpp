// The yardstick of compile times: a product, a Cholesky factorisation and eigenvalues by Eigen, which does not change.
#include <cstdio>

#include <Eigen/Dense>

int main() {
  const Eigen::MatrixXf a = Eigen::MatrixXf::Random(8, 8);
  const Eigen::MatrixXf m = a * a.transpose() + Eigen::MatrixXf::Identity(8, 8);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXf> values(m);
  std::printf("%g %g\n", double(m.llt().matrixL()(0, 0)), double(values.eigenvalues()(0)));
}
