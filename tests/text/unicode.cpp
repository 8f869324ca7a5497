#include <string>

#include "catch.hpp"
#include "m3i/text/unicode.hpp"

using namespace m3i;

namespace {
std::u32string decoded(const std::string& s) { return unicode::decode_utf8(s, "test"); }
std::string lowered(const std::string& s) { return unicode::encode_utf8(unicode::lower(decoded(s))); }
std::string unescaped(const std::string& s) { return unicode::encode_utf8(unicode::html_unescape(decoded(s))); }
std::string collapsed(const std::string& s) { return unicode::encode_utf8(unicode::collapse_space(decoded(s))); }
}  // namespace

TEST_CASE("unicode: UTF-8 of every code point survives a round trip", "[text]") {
  std::u32string all;
  for (char32_t c = 0; c <= 0x10FFFF; ++c)
    if (c < 0xD800 || c >= 0xE000) all += c;
  CHECK(unicode::decode_utf8(unicode::encode_utf8(all), "test") == all);
}

TEST_CASE("unicode: bytes that are not UTF-8 are refused with their position and can be repaired", "[text][errors]") {
  for (const char* bad : {"ab\x80", "ab\xC0\xAF", "ab\xC1\xBF", "ab\xE0\x80\x80", "ab\xED\xA0\x80",
                          "ab\xF0\x80\x80\x80", "ab\xF4\x90\x80\x80", "ab\xF8\x88\x80\x80", "ab\xE2\x82", "ab\xFF"}) {
    CAPTURE(bad);
    CHECK_THROWS_WITH(unicode::decode_utf8(bad, "caption"), Catch::Contains("caption") && Catch::Contains("byte 2"));
    CHECK(unicode::repair_utf8(bad).substr(0, 5) == "ab\uFFFD");
  }
}

TEST_CASE("unicode: classes follow the Unicode general categories", "[text]") {
  for (const char32_t c : std::u32string(U"azAZéßΩжאعक日あ한ªµ𝒜")) CHECK(unicode::is_letter(c));
  for (const char32_t c : std::u32string(U"09½²Ⅷ٣①〇")) CHECK(unicode::is_number(c));
  for (const char32_t c : std::u32string(U" .-_'°÷×€🧠\u0301\u200d")) {
    CHECK_FALSE(unicode::is_letter(c));
    CHECK_FALSE(unicode::is_number(c));
  }
  for (const char32_t c : std::u32string(U" \t\n\u00a0\u2003\u3000\u001c")) CHECK(unicode::is_space(c));
  CHECK_FALSE(unicode::is_space(U'\u200b'));
}

TEST_CASE("unicode: lower case of all scripts", "[text]") {
  CHECK(lowered("MRI of the HEAD, 3.0T") == "mri of the head, 3.0t");
  CHECK(lowered("ÀÉÎÕÜŸŻĐŁŒß") == "àéîõüÿżđłœß");
  CHECK(lowered("ΆΑΒΓΩЀЖЯԱႠẞΩKÅⅣⒶＡ𐐀") == "άαβγωѐжяաⴀßωkåⅳⓐａ𐐨");
  CHECK(lowered("İI") == "i\u0307i");
  CHECK(lowered("ΟΔΥΣΣΕΥΣ ΣΑΣ. Σ ΑΣ'Α ΑΣ\u0301 1Σ") == "οδυσσευς σας. σ ασ'α ας\u0301 1σ");
}

TEST_CASE("unicode: HTML references are replaced as browsers do", "[text]") {
  CHECK(unescaped("a &lt;b&gt; &amp;amp; &quot;c&quot; &apos;") == "a <b> &amp; \"c\" '");
  CHECK(unescaped("&#65;&#x42;&#X43;&#0067 &#8217;&#x1F9E0;") == "ABCC ’🧠");
  CHECK(unescaped("&alpha;&nbsp;&eacute;&copy &ampx &notit; &notin;") == "α\u00a0é© &x ¬it; ∉");
  CHECK(unescaped("&#150;&#0;&#xD800;&#99999999999999999999;&#1;") == "–\uFFFD\uFFFD\uFFFD");
  CHECK(unescaped("AT&T & co; &; &#; &#x; &unknown; 1&2 &") == "AT&T & co; &; &#; &#x; &unknown; 1&2 &");
}

TEST_CASE("unicode: runs of white space collapse to one space", "[text]") {
  CHECK(collapsed(" \t a \u00a0\n b\u3000") == "a b");
  CHECK(collapsed(" \n ").empty());
  CHECK(collapsed("").empty());
}
