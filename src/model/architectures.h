// One function per architecture, each in a file of its own: reads a checkpoint's configuration with the
// architecture's defaults and adds what its files do not state.
#pragma once

#include "model/checkpoint.h"
#include "model/decoder_traits.h"

namespace crible {

Result<DecoderDescription> describe_llama(const Checkpoint& checkpoint);
Result<DecoderDescription> describe_qwen2(const Checkpoint& checkpoint);
Result<DecoderDescription> describe_qwen3(const Checkpoint& checkpoint);
Result<DecoderDescription> describe_qwen3_moe(const Checkpoint& checkpoint);
Result<DecoderDescription> describe_gemma2(const Checkpoint& checkpoint);
Result<DecoderDescription> describe_gemma3(const Checkpoint& checkpoint);

}  // namespace crible
