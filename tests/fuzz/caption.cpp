// What a caption service says, and what it is sent: the first byte of the input chooses the parser, the rest is for it.
//   r  answer with status 200     e  answer with an error status     p  PNG to be sent     u  address
//   w  Retry-After                t  caption text
#include <string>

#include "harness.hpp"
#include "m3i/data/caption_cost.hpp"
#include "m3i/data/caption_journal.hpp"

namespace {

using namespace m3i;

/// Whatever is answered must be told from a caption, and must come back from the journal unchanged.
void judge(int status, const std::string& body) {
  HttpReply reply;
  reply.status = status;
  reply.body = body;
  const CaptionAnswer a = judge_caption_reply(reply).answer;
  if (has_caption(a.status) && status == 200 && a.caption.empty()) fuzz::finding("a caption without text");
  if (!has_caption(a.status) && !a.caption.empty()) fuzz::finding("a caption of a slice that has none");
  if (has_caption(a.status) && a.caption.empty()) return;  // the verdict is to stop or to retry
  const std::string line = json_text(detail::json_of("key", "id", a), "line");
  const auto [key, b] = detail::journal_entry_of(parse_json(line, "line"), "line");
  if (a.status != b.status || a.caption != b.caption || a.response != b.response || a.error != b.error ||
      a.model_version != b.model_version || a.prompt_tokens != b.prompt_tokens)
    fuzz::finding("an answer changed in the journal");
}

void read(char parser, const std::string& s) {
  switch (parser) {
    case 'r': return judge(200, s);
    case 'e':
      for (const int status : {400, 401, 404, 429, 500}) judge(status, s);
      return;
    case 'p': {
      const std::string png = bare_png(s, "picture");
      if (bare_png(png, "picture") != png || png.size() > s.size()) fuzz::finding("a bare PNG is not bare");
      const auto [width, height] = png_size(png);
      if (image_tokens(width, height, "high") < 255) fuzz::finding("a picture without tokens");
      return;
    }
    case 'u': {
      const Endpoint e = parse_endpoint(s, true);
      if (parse_endpoint(e.url, true).host != e.host) fuzz::finding("an address is read in two ways");
      return;
    }
    case 'w': {
      HttpReply reply;
      reply.retry_after = s;
      if (const auto wait = retry_after_seconds(reply, 1e9); wait && !(*wait >= 0)) fuzz::finding("a wait below 0");
      return;
    }
    default:
      if (clean_model_caption(s).size() > s.size()) fuzz::finding("a cleaned caption is longer");
      is_refusal(s);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  fuzz::examine(size, [&] { read(char(data[0]), rest); });
  return 0;
}
