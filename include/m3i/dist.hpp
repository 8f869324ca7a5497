#pragma once
/// Several processes.

#include "m3i/dist/all_gather.hpp"
#include "m3i/dist/communicator.hpp"
#include "m3i/dist/data_parallel.hpp"
#include "m3i/dist/fork.hpp"
#include "m3i/dist/mpi.hpp"
#include "m3i/dist/nccl.hpp"
#include "m3i/dist/output.hpp"
#include "m3i/dist/ranks.hpp"
#include "m3i/dist/shared_rows.hpp"
