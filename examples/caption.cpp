// Captions the slices of triplets by a vision-language model, through any service with OpenAI's "chat completions"
// form.
//
//     caption data/triplets/triplets.jsonl data/triplets/captioned.jsonl --model gpt-4o --dry-run

#include <CLI/CLI.hpp>

#include "m3i/data/caption_run.hpp"
#include "m3i/data/http_curl.hpp"
#include "m3i/data/triplets.hpp"
#include "m3i/imaging/overlay.hpp"
#include "m3i/text/bpe.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/interrupt.hpp"
#include "m3i/train/progress.hpp"

namespace {

using namespace m3i;
namespace fs = std::filesystem;

struct Request {
  std::string triplets, out, base_url = "https://api.openai.com/v1", key_env = "OPENAI_API_KEY", prompt_file,
                             vocabulary;
  CaptionParameters ask;
  CaptionRunOptions run;
  CurlOptions http;
  std::optional<Index> limit;
  std::optional<double> price_in, price_out;
  bool dry_run = false, understood = false, allow_http = false, retry_failed = false, overwrite = false;

  std::string journal() const { return out + ".journal"; }
};

long long number(Index n) { return static_cast<long long>(n); }

/// The picture of a triplet as it will be sent: its PNG file, or drawn from the volume if it names none.
std::string picture_of(const std::string& jsonl, const Triplet& t) {
  if (t.picture.empty()) {
    const auto image = read_nifti<float>(detail::beside(jsonl, t.volume), {.first_frame = true});
    const auto png = png_bytes(gray_image(triplet_picture(image, t)));
    return {png.begin(), png.end()};
  }
  const std::string path = detail::beside(jsonl, t.picture);
  const MappedFile file(path);
  constexpr std::size_t most = std::size_t(20) << 20;
  require<FileError>(file.size() <= most, path, ": has ", file.size(), " bytes, services take at most ", most);
  return bare_png(file.bytes(), path);
}

/// Every triplet's key, and the jobs that have no answer yet; equal pictures are asked for once.
struct Plan {
  std::vector<Triplet> triplets;
  std::vector<std::string> keys;
  std::vector<CaptionJob> jobs;
  CaptionCost cost;
  Index answered = 0;
};

Plan make_plan(const Request& r, const std::map<std::string, CaptionAnswer>& answers) {
  Plan plan;
  plan.triplets = read_triplets(r.triplets);
  if (r.limit && *r.limit < Index(plan.triplets.size())) plan.triplets.resize(std::size_t(*r.limit));
  std::set<std::string> asked;
  for (const Triplet& t : plan.triplets) {
    const std::string png = picture_of(r.triplets, t);
    plan.keys.push_back(caption_key(png, r.ask));
    const auto at = answers.find(plan.keys.back());
    const bool final =
        at != answers.end() && (r.retry_failed ? has_caption(at->second.status) : is_final(at->second.status));
    plan.answered += final;
    if (final || !asked.insert(plan.keys.back()).second) continue;
    plan.jobs.push_back({plan.keys.back(), t.id, [jsonl = r.triplets, t] { return picture_of(jsonl, t); }});
    plan.cost.add(png, r.ask);
  }
  return plan;
}

std::string money(double amount) {
  char out[32];
  std::snprintf(out, sizeof out, amount < 1 ? "%.4f" : "%.2f", amount);
  return out;
}

void print_plan(const Request& r, const Endpoint& endpoint, const Plan& plan) {
  const CaptionCost& c = plan.cost;
  std::printf("caption: %zu slices, %lld answered already, %lld to send to %s (%.1f MB)\n", plan.triplets.size(),
              number(plan.answered), number(c.pictures), endpoint.host.c_str(), double(c.bytes) / 1e6);
  if (plan.jobs.empty()) return;
  std::printf(
      "caption: estimate: %lld tokens in, %lld out (at most %lld); pictures by the published rule of GPT-4o at "
      "detail \"%s\"\n",
      number(c.tokens_in), number(c.tokens_out), number(c.tokens_out_most), r.ask.detail.c_str());
  if (r.price_in && r.price_out)
    std::printf("caption: estimate: costs about %s, at most %s, in the currency of the prices; retries not counted\n",
                money(c.price(*r.price_in, *r.price_out)).c_str(),
                money(c.price_most(*r.price_in, *r.price_out)).c_str());
  else std::printf("caption: give --price-in and --price-out (for a million tokens) to see what it costs\n");
}

/// Says what leaves this machine, and goes on only with consent.
void ask_for_consent(const Request& r, const Endpoint& endpoint, const Plan& plan) {
  if (endpoint.loopback || plan.jobs.empty()) return;
  std::fprintf(
      stderr,
      "caption: WARNING: %lld pictures and the prompt will leave this machine for %s%s.\n"
      "  Not sent: file names, subjects, headers, text chunks of the PNG files. But a picture itself may tell who\n"
      "  a patient is: a face in slices of a head, or text burnt into the pixels, which cannot be detected here.\n"
      "  What is sent may be stored there. Send only what consent, ethics board and contract allow.\n",
      number(Index(plan.jobs.size())), endpoint.host.c_str(), endpoint.encrypted ? "" : ", UNENCRYPTED");
  if (r.understood) return;
  require<ConfigError>(isatty(STDIN_FILENO) == 1, "sending pictures to ", endpoint.host,
                       " needs your consent; say --i-understand, or use a model on this machine");
  std::fprintf(stderr, "Type yes to send: ");
  char answer[16] = {};
  const bool read = std::fgets(answer, sizeof answer, stdin) != nullptr;
  require<ConfigError>(read && std::string(answer) == "yes\n", "nothing was sent");
}

ApiKey key_of(const Request& r, const Endpoint& endpoint) {
  const ApiKey key = ApiKey::from_environment(r.key_env);
  require<ConfigError>(!key.empty() || endpoint.loopback, "no key: the environment variable ", r.key_env,
                       " is not set; set it, or name another with --key-env");
  return key;
}

/// A path of the triplets file, as seen from the folder of the output.
std::string rebased(const Request& r, const std::string& path) {
  if (path.empty() || fs::path(path).is_absolute()) return path;
  const auto folder = [](const std::string& file) { return fs::absolute(file).parent_path().lexically_normal(); };
  return (folder(r.triplets) / path).lexically_normal().lexically_relative(folder(r.out)).string();
}

/// The triplets that have a caption now.
std::vector<Triplet> captioned(const Request& r, const Plan& plan, const CaptionJournal& journal) {
  std::vector<Triplet> out;
  for (std::size_t i = 0; i < plan.triplets.size(); ++i) {
    const CaptionAnswer* a = journal.find(plan.keys[i]);
    if (a == nullptr || !has_caption(a->status)) continue;
    Triplet t = plan.triplets[i];
    t.volume = rebased(r, t.volume);
    t.picture = rebased(r, t.picture);
    t.caption = a->caption;
    t.describer = r.ask.model;
    t.wrong.clear();
    t.origin = CaptionOrigin{r.ask.prompt, r.ask.model,      a->model_version,     r.ask.temperature,
                             a->response,  a->prompt_tokens, a->completion_tokens, caption_status_name(a->status)};
    out.push_back(std::move(t));
  }
  return out;
}

/// How many slices ended how, and an example of each that has no caption.
void print_outcome(const Plan& plan, const CaptionJournal& journal) {
  std::map<std::string, std::pair<Index, std::string>> counts;
  Index tokens_in = 0, tokens_out = 0;
  std::set<std::string> counted;
  for (std::size_t i = 0; i < plan.keys.size(); ++i) {
    const CaptionAnswer* a = journal.find(plan.keys[i]);
    auto& [count, example] = counts[a ? caption_status_name(a->status) : "not asked"];
    ++count;
    if (example.empty() && a) example = a->error.empty() ? "" : plan.triplets[i].id + ": " + a->error;
    if (!a || !counted.insert(plan.keys[i]).second) continue;
    tokens_in += std::max<Index>(0, a->prompt_tokens);
    tokens_out += std::max<Index>(0, a->completion_tokens);
  }
  for (const auto& [status, what] : counts)
    std::printf("  %-14s %lld%s%s\n", status.c_str(), number(what.first), what.second.empty() ? "" : "   e.g. ",
                what.second.c_str());
  std::printf("caption: %lld tokens in and %lld out, as the service counted them\n", number(tokens_in),
              number(tokens_out));
}

/// CLIP's tokenizer if --vocabulary names one: its own list of merges, or a folder as fit_clip writes it.
std::optional<BytePairTokenizer> tokenizer_of(const Request& r) {
  if (r.vocabulary.empty()) return std::nullopt;
  std::error_code error;
  if (!fs::is_directory(r.vocabulary, error)) return BytePairTokenizer::from_clip(r.vocabulary);
  return BytePairTokenizer::from_hugging_face(r.vocabulary + "/vocab.json", r.vocabulary + "/merges.txt");
}

/// Captions that CLIP's context of 77 cuts: by its tokenizer, or about, from the count of words.
void print_lengths(const Request& r, const std::vector<Triplet>& triplets) {
  constexpr Index room = 75;  // start and end take two
  Index over = 0, longest = 0;
  const auto tokenizer = tokenizer_of(r);
  for (const Triplet& t : triplets) {
    const Index n = tokenizer ? tokenizer->count(t.caption) : count_words(t.caption) * 4 / 3;
    over += n > room;
    longest = std::max(longest, n);
  }
  std::printf("caption: %s%lld of %zu captions are longer than the 75 tokens that CLIP reads (longest %lld)%s\n",
              tokenizer ? "" : "about ", number(over), triplets.size(), number(longest),
              tokenizer ? "" : ", judged by words; --vocabulary counts exactly");
  if (over > 0)
    std::printf(
        "caption: CLIP loses the ends of these; choose what happens to them with clip.long_captions, or ask for "
        "shorter ones with --prompt\n");
}

int run(Request r) {
  if (!r.prompt_file.empty()) r.ask.prompt = std::string(detail::trimmed(read_text_file(r.prompt_file, 1 << 16)));
  require<ConfigError>(!detail::trimmed(r.ask.prompt).empty(), "the prompt is empty");
  require<ConfigError>(!r.ask.model.empty(), "--model is empty");
  const Endpoint endpoint = parse_endpoint(r.base_url, r.allow_http);
  std::error_code error;
  require<ConfigError>(!fs::equivalent(r.triplets, r.out, error), r.out, ": is the input; name another output");
  require<ConfigError>(!fs::is_directory(r.out, error), r.out, ": is a folder; name a file, e.g. captioned.jsonl");
  require<ConfigError>(r.overwrite || !fs::exists(r.out, error) || fs::exists(r.journal(), error), r.out,
                       ": exists and is not of this program; name another output, or say --overwrite");
  require<FileError>(r.http.ca_file.empty() || fs::exists(r.http.ca_file, error), r.http.ca_file, ": no such file");
  tokenizer_of(r);  // a wrong path ends here, before anything is paid for
  if (r.dry_run) {
    print_plan(r, endpoint, make_plan(r, read_caption_journal(r.journal())));
    return 0;
  }
  const ApiKey key = key_of(r, endpoint);
  Plan plan = make_plan(r, read_caption_journal(r.journal()));
  print_plan(r, endpoint, plan);
  std::fflush(stdout);
  ask_for_consent(r, endpoint, plan);

  CaptionJournal journal(r.journal());
  std::erase_if(plan.jobs, [&](const CaptionJob& job) {  // another run may have ended while we asked
    const CaptionAnswer* a = journal.find(job.key);
    return a != nullptr && has_caption(a->status);
  });
  Interrupt interrupt;
  Progress progress("caption", Index(plan.jobs.size()));
  Index done = 0;
  double said = -1e9;
  CaptionEvents events;
  events.stop = [&] { return interrupt.requested(); };
  events.redact = [&](std::string s) { return key.redact(std::move(s)); };
  events.answer = [&](const CaptionJob&, const CaptionAnswer& a) {
    progress.update(++done, a.status == CaptionStatus::ok ? "" : caption_status_name(a.status));
  };
  events.waiting = [&](const CaptionJob&, const std::string& why, double seconds) {
    const double now = r.run.clock.now();
    if (now - said > 5) progress.say(text("caption: ", why, "; again in ", duration_text(seconds)));
    if (now - said > 5) said = now;
  };
  const std::string url = endpoint.url + "/chat/completions";
  const auto connect = [&]() -> HttpPost {
    const auto client = std::make_shared<CurlClient>(url, endpoint, key, r.http);
    return [client](const std::string& body) { return client->post(body); };
  };
  const CaptionRunResult result = run_captions(plan.jobs, r.ask, r.run, journal, connect, events);
  if (!plan.jobs.empty()) progress.finish();

  if (!result.stopped.empty() || interrupt.requested()) {
    const Index kept = plan.answered + result.answered;
    std::printf("caption: %lld of %zu slices have an answer%s\n", number(kept), plan.triplets.size(),
                text(kept > 0 ? ", kept in " + r.journal() : "", "; run the same command to go on").c_str());
    require<ConfigError>(result.stopped.empty(), "stopped: ", result.stopped);
    return interrupt.exit_code();
  }
  print_outcome(plan, journal);
  const std::vector<Triplet> triplets = captioned(r, plan, journal);
  require<ConfigError>(!triplets.empty(), "no slice got a caption, so ", r.out, " is not written");
  write_triplets(r.out, triplets);
  print_lengths(r, triplets);
  const std::size_t missing = plan.triplets.size() - triplets.size();
  std::printf("caption: %zu triplets in %s%s\n", triplets.size(), r.out.c_str(),
              missing > 0 ? text("; ", missing, " without a caption are left out").c_str() : "");
  if (result.failed == 0) return 0;
  std::printf("caption: %lld slices failed in a way that may pass; run the same command to ask for them again\n",
              number(result.failed));
  return 1;
}

void add_service_options(CLI::App& app, Request& r) {
  app.add_option("--base-url", r.base_url, "address of the service, up to /chat/completions")->capture_default_str();
  app.add_option("--model", r.ask.model, "name of the model, as the service knows it")->required();
  app.add_option("--key-env", r.key_env, "NAME of the environment variable that holds the key")->capture_default_str();
  app.add_flag("--allow-http", r.allow_http, "allow an unencrypted address of another machine");
  app.add_flag("--i-understand", r.understood, "I know which pictures leave this machine, and may send them");
  app.add_option("--ca-file", r.http.ca_file, "certificates (PEM) to trust instead of the system's");
  app.add_option("--timeout", r.http.timeout_seconds, "seconds for one request")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app.add_option("--parallel", r.run.parallel, "requests at the same time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--requests-per-minute", r.run.requests_per_minute, "limit of requests (0: none)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--tokens-per-minute", r.run.tokens_per_minute, "limit of tokens in and out (0: none)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--retries", r.run.retries, "further attempts after 408, 409, 429, 5xx, time-outs, broken connections")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  app.add_option("--backoff", r.run.backoff_first, "seconds before the first retry; doubled each time, at most 60")
      ->check(CLI::Range(0.001, 60.0))
      ->capture_default_str();
  app.add_option("--longest-wait", r.run.longest_wait, "a service that asks to wait longer (Retry-After) ends the run")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", r.run.seed, "seed of the waits");
}

void add_question_options(CLI::App& app, Request& r) {
  auto* prompt = app.add_option("--prompt", r.ask.prompt, "what is asked of each picture")->capture_default_str();
  app.add_option("--prompt-file", r.prompt_file, "the prompt as a text file")->excludes(prompt);
  app.add_option("--temperature", r.ask.temperature, "of the sampling (the service's own if not given)")
      ->check(CLI::Range(0.0, 2.0));
  app.add_option("--max-tokens", r.ask.max_tokens, "longest answer")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_flag("--completion-limit", r.ask.completion_limit,
               "send the limit as max_completion_tokens, which newer models want, not as max_tokens");
  app.add_option("--detail", r.ask.detail, "of the picture: low, high or auto")
      ->check(CLI::IsMember({"low", "high", "auto"}))
      ->capture_default_str();
  app.add_option("--limit", r.limit, "only the first N triplets")->check(CLI::Range(1, 100000000));
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Sends the slice of each triplet to a vision-language model and writes the triplets with its captions.\n"
        "Answers are kept in OUT.journal as they come: after Ctrl-C, a crash or a used-up account, the same command "
        "goes\n"
        "on and pays for nothing twice. --dry-run sends nothing and estimates the cost. The key is read from the\n"
        "environment and is never printed. Slices may show who a patient is: see --i-understand.");
    Request r;
    app.add_option("triplets", r.triplets, "triplets.jsonl of make_triplets")->required();
    app.add_option("out", r.out, "JSON lines to write: the triplets that have a caption")->required();
    add_service_options(app, r);
    add_question_options(app, r);
    app.add_flag("--dry-run", r.dry_run, "count slices, bytes, tokens and cost; no network");
    auto* price_in =
        app.add_option("--price-in", r.price_in, "price of a million tokens sent")->check(CLI::NonNegativeNumber);
    auto* price_out =
        app.add_option("--price-out", r.price_out, "price of a million tokens received")->check(CLI::NonNegativeNumber);
    price_in->needs(price_out);
    price_out->needs(price_in);
    app.add_option("--vocabulary", r.vocabulary,
                   "CLIP's bpe_simple_vocab_16e6.txt(.gz), or a folder with vocab.json and merges.txt: counts captions "
                   "that are too long for it");
    app.add_flag("--retry-failed", r.retry_failed, "ask again where the model declined or said nothing");
    app.add_flag("--overwrite", r.overwrite, "replace OUT even if another program wrote it");
    app.footer(
        "Example:  caption data/triplets/triplets.jsonl data/triplets/captioned.jsonl --model gpt-4o --dry-run\n"
        "          caption data/triplets/triplets.jsonl data/triplets/captioned.jsonl --model llava \\\n"
        "                  --base-url http://localhost:11434/v1");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(std::move(r));
  });
}
