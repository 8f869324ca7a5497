#pragma once
/// run_ranks(): a program's work on one process, on forked ranks, or on those of mpirun, whichever the user asked for.

#include <cstdlib>
#include <functional>
#include <memory>

#include "m3i/dist/fork.hpp"
#include "m3i/dist/mpi.hpp"
#include "m3i/dist/nccl.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Whether mpirun (Open MPI, MPICH, Slurm's) has started this process as one of several.
inline bool started_by_mpi() {
  for (const char* const name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
    if (std::getenv(name)) return true;
  return false;
}

/// Calls body(communicator) on each rank and returns rank 0's exit code. `ranks`: 1, or how many to fork; under mpirun
/// it must be 1, as mpirun says how many.
inline int run_ranks(int ranks, const std::function<int(Communicator&)>& body) {
  require<ConfigError>(ranks >= 1, "--ranks ", ranks, ": expected 1 or more");
  if (started_by_mpi()) {
    require<ConfigError>(ranks == 1, "--ranks ", ranks, " under mpirun: mpirun -n says how many ranks there are");
#if M3I_MPI
    return mpi_ranks(body);
#else
    fail<ConfigError>("started by mpirun, but built without MPI: start ", "it alone with --ranks N, or build with MPI");
#endif
  }
  if (ranks > 1) return fork_ranks(ranks, body);
  OneProcess alone;
  return body(alone);
}

/// The number of this rank among those of its machine.
inline int rank_on_machine(const Communicator& communicator) {
  if (started_by_mpi())
    for (const char* const name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"})
      if (const char* const local = std::getenv(name)) return std::atoi(local);
  return communicator.rank();
}

/// One process a GPU: `first`, such as cuda:0, for the first rank of a machine, the next GPU for the next. Any other
/// device is shared.
inline Device device_of_rank(const Communicator& communicator, Device first) {
  if (first.on_host() || communicator.size() == 1) return first;
  const int number = first.number + rank_on_machine(communicator);
  require<DeviceError>(number < cuda_device_count(), "rank ", communicator.rank(), " would take cuda:", number,
                       ", this machine has ", cuda_device_count(), " GPUs; start fewer ranks");
  return Device::cuda(number);
}

/// NCCL between the GPUs of the ranks; null for other devices, and when built without it: tensors are then copied to
/// the host for each sum.
inline std::unique_ptr<Communicator> gpu_communicator([[maybe_unused]] Communicator& host,
                                                      [[maybe_unused]] Device device) {
#if M3I_CUDA && M3I_NCCL
  if (!device.on_host() && host.size() > 1) return std::make_unique<NcclCommunicator>(host, device);
#endif
  return nullptr;
}

}  // namespace M3I_ABI
}  // namespace m3i
