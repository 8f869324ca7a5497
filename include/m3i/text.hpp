#pragma once
/// Tokenizers and slice descriptions.

#include "m3i/text/bpe.hpp"
#include "m3i/text/bpe_learn.hpp"
#include "m3i/text/describe.hpp"
#include "m3i/text/html_entities.hpp"
#include "m3i/text/text_file.hpp"
#include "m3i/text/unicode.hpp"
#include "m3i/text/unicode_tables.hpp"
#include "m3i/text/vocab_json.hpp"
