#pragma once
/// What the programs have in common: the options --config, --set, --dtype and --show-config, and their output folder.

#include <filesystem>
#include <string>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/dist/ranks.hpp"
#include "m3i/io/json.hpp"
#include "m3i/nn/init.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Options that every training program takes. App is CLI::App.
struct ProgramOptions {
  std::string config_path;
  std::vector<std::string> overrides;
  std::string dtype;
  bool show_config = false;
  int ranks = 1;

  template <class App>
  void add_to(App& app) {
    app.add_option("-c,--config", config_path, "JSON configuration (see configs/); without it, the paper's values");
    app.add_option("--set", overrides, "override keys, after the other arguments: --set pretrain.epochs=3 run.seed=1")
        ->take_all();
    app.add_option("--dtype", dtype, "f32, bf16 or f16: the same as --set run.dtype=");
    app.add_flag("--show-config", show_config, "print every key with its value and meaning, and leave");
  }

  /// For programs that can work on several processes.
  template <class App>
  void add_ranks_to(App& app) {
    app.add_option("--ranks,--gpus", ranks,
                   "processes that share each batch (the batch size counts all of them), one a GPU if run.device is "
                   "one; mpirun -n N starts them as well");
  }

  /// The configuration; sets threads and seeds the initial values. Prints and leaves for --show-config.
  MethodConfig load() const {
    auto settings = overrides;
    if (!dtype.empty()) settings.push_back("run.dtype=" + dtype);
    const MethodConfig config = load_config<MethodConfig>(config_path, settings);
    if (show_config) {
      std::printf("%s", describe_config(config).c_str());
      throw LeaveProgram{0};
    }
    const Device device = Device::parse(config.run.device);
    require<ConfigError>(device.on_host() || device.number < cuda_device_count(), "run.device: ", config.run.device,
                         " is not there; this build sees ", cuda_device_count(), " GPUs");
    require<ConfigError>(config.network.in_channels == 1, "network.in_channels: is ", config.network.in_channels,
                         ", but programs read one channel of an image, which data.channel chooses");
    if (config.run.threads > 0) set_thread_count(int(config.run.threads));
    seed_initializer(config.run.seed);
    return config;
  }

  /// Calls body(config, communicator) on each rank, with the device of that rank in run.device, and returns the exit
  /// code. Each rank loads the configuration itself: a GPU must not be touched before.
  template <class Body>
  int run_on_ranks(const Body& body) const {
    if (show_config) load();
    return run_ranks(ranks, [&](Communicator& started) {
      MethodConfig config = load();
      const Device device = device_of_rank(started, Device::parse(config.run.device));
      config.run.device = device.text();
      use_device(device);
      const auto gpu = gpu_communicator(started, device);
      return body(config, gpu ? *gpu : started);
    });
  }
};

/// parse_command_line of a program with these options: --show-config needs none of the other arguments.
template <class ParseError, class App>
void parse_command_line(App& app, int argc, char** argv, const ProgramOptions& options) {
  try {
    parse_command_line<ParseError>(app, argc, argv);
  } catch (const UsageError&) {
    if (options.show_config) options.load();  // prints and leaves
    throw;
  }
}

/// Makes the output folder; throws FileError that names it.
inline void make_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require<FileError>(!error && std::filesystem::is_directory(folder), folder,
                     ": cannot be made: ", error ? error.message() : std::string("something else has this name"));
}

}  // namespace M3I_ABI
}  // namespace m3i
