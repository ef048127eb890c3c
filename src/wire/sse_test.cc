#include "wire/sse.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace crible {
namespace {

struct Read {
  std::vector<std::pair<std::string, std::string>> events;  // name, data
  bool failed = false;
  bool inside_event = false;
  bool operator==(const Read&) const = default;
};

// Every piece lives in a buffer of its own that is destroyed before the next: a view kept too long
// is an address error.
Read read_in_pieces(std::string_view stream, const std::vector<size_t>& cuts, size_t limit = 1 << 20) {
  SseParser parser(limit);
  Read read;
  size_t from = 0;
  for (size_t i = 0; i <= cuts.size(); ++i) {
    const size_t to = i == cuts.size() ? stream.size() : cuts[i];
    const std::vector<char> piece(stream.begin() + from, stream.begin() + to);
    from = to;
    parser.feed(std::string_view(piece.data(), piece.size()));
    SseEvent event;
    while (true) {
      const auto got = parser.next(event);
      if (!got) {
        read.failed = true;
        return read;
      }
      if (!*got) break;
      read.events.emplace_back(event.name, event.data);
    }
  }
  read.inside_event = parser.inside_event();
  return read;
}

Read read_whole(std::string_view stream) { return read_in_pieces(stream, {}); }

TEST(Sse, ReadsTheExamplesOfTheStandard) {
  using Events = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(read_whole("data: YHOO\ndata: +2\ndata: 10\n\n").events, (Events{{"", "YHOO\n+2\n10"}}));
  EXPECT_EQ(read_whole(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n").events,
            (Events{{"", "first event"}, {"", "second event"}, {"", " third event"}}));
  EXPECT_EQ(read_whole("data\n\ndata\ndata\n\ndata:").events, (Events{{"", ""}, {"", "\n"}}));
  EXPECT_EQ(read_whole("event: add\ndata: 73857293\n\nevent: none\n\ndata: x\n\n").events,
            (Events{{"add", "73857293"}, {"", "x"}}));
  EXPECT_EQ(read_whole("\xEF\xBB\xBF" "data: a\r\n\r\ndata: b\r\rdata: c\n\n").events,
            (Events{{"", "a"}, {"", "b"}, {"", "c"}}));
}

TEST(Sse, AnEndInsideAnEventShows) {
  EXPECT_FALSE(read_whole("data: a\n\n").inside_event);
  EXPECT_TRUE(read_whole("data: a\n\ndata: b\n").inside_event);
  EXPECT_TRUE(read_whole("data: a\n\ndat").inside_event);
}

TEST(Sse, EveryCutOfEveryStreamReadsTheSame) {
  const std::string stream =
      "\xEF\xBB\xBF: hi\r\ndata: {\"a\":1}\r\n\r\nevent: e\rdata: x\rdata: y\r\r\ndata:z\n\n\n\ndata\n\nretry: 5\ndata: \xF0\x9F\x98\x80\n\nda";
  const Read whole = read_whole(stream);
  ASSERT_EQ(whole.events.size(), 5u);
  for (size_t a = 0; a <= stream.size(); ++a) {
    for (size_t b = a; b <= stream.size(); ++b) ASSERT_EQ(read_in_pieces(stream, {a, b}), whole) << a << " " << b;
  }
}

TEST(Sse, RandomStreamsReadTheSameHoweverCut) {
  std::mt19937 random(7);
  constexpr std::string_view kParts[] = {"data:", "data: ", "data", "event: x", ":", "\n", "\r", "\r\n", "\n\n", "{\"t\":\"é\"}", " ", "id: 3", "\xEF\xBB\xBF"};
  for (int round = 0; round < 3000; ++round) {
    std::string stream;
    const int parts = 1 + static_cast<int>(random() % 24);
    for (int i = 0; i < parts; ++i) stream += kParts[random() % std::size(kParts)];
    std::vector<size_t> cuts;
    for (size_t i = 1; i < stream.size(); ++i) {
      if (random() % 3 == 0) cuts.push_back(i);
    }
    ASSERT_EQ(read_in_pieces(stream, cuts), read_whole(stream)) << testing::PrintToString(stream);
  }
}

TEST(Sse, WhatIsWrittenIsRead) {
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    std::string data;
    const int size = static_cast<int>(random() % 60);
    for (int i = 0; i < size; ++i) data += "ab \n:é"[random() % 6];
    std::string stream;
    append_sse_event(stream, data);
    const Read read = read_whole(stream);
    ASSERT_EQ(read.events.size(), 1u);
    EXPECT_EQ(read.events[0].second, data);
  }
}

TEST(Sse, AnEndlessEventIsAnErrorWithinTheLimit) {
  const std::string line(600, 'x');
  // One line that never ends, in pieces; many data lines; one whole line too long.
  EXPECT_TRUE(read_in_pieces("data: " + line + line + "\n\n", {300, 700, 1100}, 1000).failed);
  EXPECT_TRUE(read_in_pieces("data: " + line + "\ndata: " + line + "\n\n", {}, 1000).failed);
  EXPECT_TRUE(read_in_pieces("data: " + line + line + "\n\n", {}, 1000).failed);
  EXPECT_FALSE(read_in_pieces("data: " + line + "\n\ndata: " + line + "\n\n", {}, 1000).failed);
}

}  // namespace
}  // namespace crible
