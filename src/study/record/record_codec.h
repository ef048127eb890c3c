// Texts and bytes in which parts of a record stand in the store: JSON for small structures, packed
// integers for token gaps. Decoders fail on anything that the encoders cannot have written.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "study/record/trial.h"

namespace crible::study {

std::string encode_machine(const MachineRecord& machine);
Result<MachineRecord> decode_machine(const std::string& json);
std::string encode_model(const ModelRecord& model);
Result<ModelRecord> decode_model(const std::string& json);

std::string encode_texts(const std::vector<std::string>& texts);
Result<std::vector<std::string>> decode_texts(const std::string& json);
std::string encode_adjustments(const std::vector<AdjustmentRecord>& adjustments);
Result<std::vector<AdjustmentRecord>> decode_adjustments(const std::string& json);
// Values that are not finite are left out: JSON has no word for them.
std::string encode_counters(const std::map<std::string, double>& counters);
Result<std::map<std::string, double>> decode_counters(const std::string& json);

// Seven bits a byte, lowest first, the eighth set on all but the last; signs folded into bit 0.
std::string encode_gaps(const std::vector<int64_t>& gaps_ns);
Result<std::vector<int64_t>> decode_gaps(std::string_view bytes);

}  // namespace crible::study
