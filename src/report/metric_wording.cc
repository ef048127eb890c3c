#include "report/metric_wording.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "study/record/metrics.h"
#include "study/record/scenario_table.h"

namespace crible::report {
namespace {

struct MetricWords {
  std::string_view name;
  std::string_view english;
  std::string_view french;
  std::string_view french_definition;
};

constexpr std::array<MetricWords, 26> kMetrics{{
    {"ttft_miss_ms", "TTFT (MISS)", "TTFT (MISS)",
     "temps jusqu’au premier jeton d’un prompt absent du cache de préfixes"},
    {"ttft_hit_ms", "TTFT (HIT)", "TTFT (HIT)",
     "temps jusqu’au premier jeton d’un prompt dont le serveur confirme que le préfixe est en cache"},
    {"ttft_repeat_ms", "TTFT (repeat)", "TTFT (répétition)",
     "temps jusqu’au premier jeton quand un préfixe est renvoyé, en cache ou non : ce que ressent "
     "l’utilisateur"},
    {"acceleration", "Acceleration", "Accélération",
     "TTFT d’un MISS divisé par le TTFT de son HIT confirmé, paire par paire"},
    {"ttft_ms", "TTFT", "TTFT", "temps entre l’envoi prévu et le premier jeton, quel qu’il soit"},
    {"ttft_from_send_ms", "TTFT from actual send", "TTFT depuis l’envoi réel",
     "temps entre l’envoi réel et le premier jeton, quel qu’il soit"},
    {"ttfo_ms", "TTFO", "TTFO", "temps entre l’envoi prévu et le premier jeton hors raisonnement"},
    {"e2el_ms", "E2EL", "E2EL", "temps entre l’envoi prévu et le dernier jeton"},
    {"tpot_ms", "TPOT", "TPOT", "temps moyen par jeton de sortie après le premier, par requête"},
    {"itl_ms", "ITL", "ITL",
     "intervalles entre jetons, mis en commun ; seulement pour les flux qui portent un jeton par trame"},
    {"icl_ms", "ICL", "ICL", "intervalles entre trames du flux, mis en commun"},
    {"output_tokens_per_s", "Output tokens/s", "Jetons produits/s",
     "jetons de sortie de tous les flux par seconde, au meilleur niveau de concurrence"},
    {"request_throughput", "Requests/s", "Requêtes/s",
     "requêtes achevées par seconde, au meilleur niveau de concurrence"},
    {"goodput", "Goodput", "Goodput",
     "requêtes par seconde qui tiennent tous les niveaux de service, au meilleur niveau de concurrence"},
    {"cached_prompt_share", "Cached share of prompts", "Part des prompts en cache",
     "part des jetons de prompt qui venaient du cache de préfixes"},
    {"latency_slope", "Latency slope", "Pente de latence",
     "croissance de la latence de bout en bout par requête, corrigée de la longueur des réponses"},
    {"error_rate", "Error rate", "Taux d’erreur",
     "requêtes en échec ou hors délai parmi toutes les requêtes"},
    {"preemptions", "Pre-emptions", "Préemptions",
     "séquences que le serveur a interrompues pendant un essai"},
    {"device_memory_mib", "Device memory", "Mémoire du dispositif",
     "plus grande mémoire du dispositif utilisée pendant un essai"},
    {"device_memory_share", "Device memory share", "Part de mémoire du dispositif",
     "la même, en part de la mémoire du dispositif"},
    {"server_resident_mib", "Server resident memory", "Mémoire résidente du serveur",
     "plus grande mémoire résidente du serveur, côté hôte, pendant un essai"},
    {"energy_per_output_token_j", "Energy per output token", "Énergie par jeton produit",
     "énergie prise par les GPU pendant un essai, prompts compris, par jeton de sortie"},
    {"gpu_power_w", "GPU power", "Puissance des GPU", "puissance moyenne des GPU pendant un essai"},
    {"gpu_power_peak_w", "GPU peak power", "Puissance de pointe des GPU",
     "plus grande puissance lue sur les GPU pendant un essai"},
    {"gpu_memory_mib", "GPU memory", "Mémoire des GPU",
     "plus grande mémoire des GPU utilisée pendant un essai, telle que leur pilote la compte, tous "
     "processus confondus"},
    {"gpu_throttled_share", "GPU throttled", "GPU bridé",
     "part d’un essai où la limite de puissance, la chaleur ou l’alimentation retenait les horloges"},
}};

struct Words {
  std::string_view name;
  std::string_view english;
  std::string_view french;
};

// English definitions of scenarios are the table's own.
constexpr std::array<Words, 4> kScenarios{{
    {"kv_cache", "",
     "paires de requêtes sur de longs préfixes partagés : la première calcule, la seconde trouve le préfixe "
     "en cache"},
    {"conversation", "", "dialogue de plusieurs tours, chacun envoyé avec tout son historique"},
    {"stability", "", "un mélange fixe dans la durée : la latence croît-elle d’une requête à la suivante ?"},
    {"concurrency", "", "charge croissante : débit et latence selon le nombre de flux"},
}};

constexpr std::array<Words, 14> kObjectives{{
    {"conversational_agents", "Conversational agents", "Agents conversationnels"},
    {"reasoning", "Complex reasoning", "Raisonnement complexe"},
    {"complex_reasoning", "Complex reasoning", "Raisonnement complexe"},
    {"tool_calling", "Tool calling", "Appel d’outils"},
    {"generic_production", "Generic production", "Production générique"},
    {"production_generic", "Generic production", "Production générique"},
    {"production", "Production", "Production"},
    {"shared_documents", "Shared documents", "Documents partagés"},
    {"long_answers", "Long answers", "Réponses longues"},
    {"first_contact", "First contact", "Premier contact"},
    {"long_generation", "Long generation", "Génération longue"},
    {"long_context", "Long contexts", "Contextes longs"},
    {"throughput", "Throughput", "Débit"},
    {"stability", "Stability", "Stabilité"},
}};

template <typename Table>
auto find_words(const Table& table, std::string_view name) {
  return std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.name == name; });
}

}  // namespace

std::string metric_label_words(std::string_view metric, Language language) {
  const auto* found = find_words(kMetrics, metric);
  if (found == kMetrics.end()) return std::string(metric);
  return std::string(language == Language::kFrench ? found->french : found->english);
}

std::string metric_definition(std::string_view metric, Language language) {
  const auto* found = find_words(kMetrics, metric);
  if (language == Language::kFrench && found != kMetrics.end()) return std::string(found->french_definition);
  const study::MetricInfo* info = study::find_metric(metric);
  return info == nullptr ? "" : std::string(info->help);
}

std::string scenario_definition(std::string_view scenario, Language language) {
  const auto* found = find_words(kScenarios, scenario);
  if (language == Language::kFrench && found != kScenarios.end()) return std::string(found->french);
  const study::ScenarioInfo* info = study::find_scenario(scenario);
  return info == nullptr ? "" : std::string(info->help);
}

std::string objective_words(std::string_view objective, Language language) {
  const auto* found = find_words(kObjectives, objective);
  if (found != kObjectives.end()) {
    return std::string(language == Language::kFrench ? found->french : found->english);
  }
  std::string words(objective);
  std::replace(words.begin(), words.end(), '_', ' ');
  if (!words.empty()) words[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(words[0])));
  return words;
}

bool has_metric_words(std::string_view metric) {
  return find_words(kMetrics, metric) != kMetrics.end();
}

bool has_scenario_words(std::string_view scenario) {
  return find_words(kScenarios, scenario) != kScenarios.end();
}

}  // namespace crible::report
