#include "server/serve_options.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"

namespace crible {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

template <typename Config>
const Field<Config>* field_named(const FieldTable<Config>& table, std::string_view name) {
  for (const auto& f : table.fields()) {
    if (f.name == name) return &f;
  }
  return nullptr;
}

// A flag as written: --name, --name=value or --no-name.
struct Flag {
  std::string_view name;
  std::optional<std::string_view> value;
};

Flag split_flag(std::string_view argument) {
  argument.remove_prefix(2);
  const size_t equals = argument.find('=');
  if (equals == std::string_view::npos) return {argument, std::nullopt};
  return {argument.substr(0, equals), argument.substr(equals + 1)};
}

class ArgumentParser {
 public:
  ArgumentParser(std::span<const std::string_view> arguments, ServeOptions& options)
      : arguments_(arguments), options_(options) {}

  Status parse() {
    for (next_ = 0; next_ < arguments_.size();) {
      const std::string_view argument = arguments_[next_++];
      if (argument == "--help" || argument == "-h") {
        options_.help = true;
        return {};
      }
      if (argument.starts_with("--")) {
        CRIBLE_RETURN_IF_ERROR(take_flag(split_flag(argument)));
      } else if (argument.starts_with('-')) {
        return fail(ErrorCode::kInvalidArgument, "unknown flag '{}'; flags begin with --", argument);
      } else if (options_.model.empty()) {
        options_.model = argument;
      } else {
        return fail(ErrorCode::kInvalidArgument, "'{}' is one argument too many; the model is '{}'", argument,
                    options_.model.string());
      }
    }
    if (options_.model.empty()) {
      return fail(ErrorCode::kInvalidArgument, "no model is named; usage: crible serve MODEL [--flags]");
    }
    return {};
  }

 private:
  Status take_flag(Flag flag) {
    if (flag.name == "config") {
      CRIBLE_TRY(const std::string_view path, value_of(flag));
      return apply_file(path);
    }
    CRIBLE_TRY(const bool engine, set(engine_fields(), options_.engine, flag));
    if (engine) return {};
    CRIBLE_TRY(const bool server, set(server_fields(), options_.server, flag));
    if (server) return {};
    return fail(ErrorCode::kInvalidArgument, "unknown flag '--{}'{}", flag.name, suggestion(flag.name));
  }

  // False when the table has no such field.
  template <typename Config>
  Result<bool> set(const FieldTable<Config>& table, Config& config, Flag flag) {
    const Field<Config>* f = field_named(table, flag.name);
    const bool negated = f == nullptr && flag.name.starts_with("no-");
    if (negated) f = field_named(table, flag.name.substr(3));
    if (f == nullptr) return false;
    const bool is_bool = std::holds_alternative<bool>(FieldTable<Config>::get(config, *f));
    if (negated && (!is_bool || flag.value)) {
      return fail(ErrorCode::kInvalidArgument, "'--{}' is not a flag; --no-NAME turns an on/off setting off and takes "
                  "no value", flag.name);
    }
    std::string_view value = negated ? "false" : "true";
    if (!is_bool || flag.value) {
      CRIBLE_TRY(value, value_of(flag));
    }
    CRIBLE_RETURN_IF_ERROR(table.set_text(config, f->name, value));
    return true;
  }

  Result<std::string_view> value_of(Flag flag) {
    if (flag.value) return *flag.value;
    if (next_ == arguments_.size()) return fail(ErrorCode::kInvalidArgument, "--{} needs a value", flag.name);
    return arguments_[next_++];
  }

  Status apply_file(std::string_view path) {
    CRIBLE_TRY(const std::string text, read_file(path, kMaxConfigBytes));
    const auto settings = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!settings.is_object()) {
      return fail(ErrorCode::kInvalidArgument, "{} must hold one JSON object of settings", path);
    }
    for (const auto& [name, value] : settings.items()) {
      Status applied;
      if (field_named(server_fields(), name) != nullptr) {
        applied = server_fields().set_json(options_.server, name, value);
      } else {
        applied = engine_fields().set_json(options_.engine, name, value);
      }
      if (!applied) return tl::unexpected<Error>(with_context(applied.error(), std::string(path)));
    }
    return {};
  }

  static std::string suggestion(std::string_view name) {
    std::vector<std::string_view> names = {"config", "help"};
    for (const auto& f : engine_fields().fields()) names.push_back(f.name);
    for (const auto& f : server_fields().fields()) names.push_back(f.name);
    return suggest(name, names);
  }

  std::span<const std::string_view> arguments_;
  ServeOptions& options_;
  size_t next_ = 0;
};

template <typename Config>
void append_table(std::string& out, const FieldTable<Config>& table) {
  const Config defaults;
  for (const auto& f : table.fields()) {
    const field::Value value = FieldTable<Config>::get(defaults, f);
    const bool is_bool = std::holds_alternative<bool>(value);
    out += fmt::format("  --{}{}{}\n      {}{}\n      {}; default {}\n", is_bool ? "[no-]" : "", f.name,
                       is_bool ? "" : fmt::format(" {}", f.unit.empty() ? field::type_name(value) : f.unit), f.help,
                       f.live ? " (live)" : "", field::describe_range(FieldTable<Config>::rule(f), value),
                       field::to_json(value).dump());
  }
}

}  // namespace

Result<ServeOptions> parse_serve_arguments(std::span<const std::string_view> arguments,
                                           std::string_view environment_key) {
  ServeOptions options;
  options.server.api_key = environment_key;
  CRIBLE_RETURN_IF_ERROR(ArgumentParser(arguments, options).parse());
  return options;
}

std::string serve_help() {
  std::string help =
      "usage: crible serve MODEL [--flags]\n\n"
      "Serves a GGUF model over an OpenAI-compatible API.\n\n"
      "  --config FILE\n      JSON object of the settings below, by the same names\n\n"
      "Engine (those marked live also change while it runs, by POST /admin/reconfigure):\n";
  append_table(help, engine_fields());
  help += "\nServer:\n";
  append_table(help, server_fields());
  return help;
}

}  // namespace crible
