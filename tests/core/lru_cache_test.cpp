#include "molar/core/lru_cache.h"

#include <gtest/gtest.h>

namespace molar {
namespace {

std::shared_ptr<const int> value(int number) { return std::make_shared<const int>(number); }

TEST(LruCache, TheLeastRecentlyUsedFallsOutFirst) {
  LruCache<int> cache(30);
  for (const int i : {1, 2, 3}) cache.insert(std::to_string(i), value(i), 10);
  ASSERT_NE(cache.find("1"), nullptr);  // now "2" is the oldest
  cache.insert("4", value(4), 10);
  EXPECT_EQ(cache.find("2"), nullptr);
  for (const int i : {1, 3, 4}) EXPECT_EQ(*cache.find(std::to_string(i)), i);
  EXPECT_EQ(cache.bytes(), 30);
}

TEST(LruCache, ALargeValueDrivesOutSeveral) {
  LruCache<int> cache(30);
  for (const int i : {1, 2, 3}) cache.insert(std::to_string(i), value(i), 10);
  cache.insert("4", value(4), 20);
  EXPECT_EQ(cache.size(), 2U);
  EXPECT_NE(cache.find("3"), nullptr);
  EXPECT_EQ(cache.bytes(), 30);
}

TEST(LruCache, WhatExceedsTheLimitIsHandedBackButNotKept) {
  LruCache<int> cache(30);
  cache.insert("1", value(1), 10);
  EXPECT_EQ(*cache.insert("2", value(2), 31), 2);
  EXPECT_EQ(cache.find("2"), nullptr);
  EXPECT_NE(cache.find("1"), nullptr);
  LruCache<int> none(0);
  none.insert("1", value(1), 1);
  EXPECT_EQ(none.size(), 0U);
}

TEST(LruCache, AValueOfTheSameKeyIsReplaced) {
  LruCache<int> cache(30);
  cache.insert("1", value(1), 20);
  cache.insert("1", value(2), 10);
  EXPECT_EQ(*cache.find("1"), 2);
  EXPECT_EQ(cache.bytes(), 10);
  cache.insert("1", value(3), 40);  // too large: the old one must not answer for it
  EXPECT_EQ(cache.find("1"), nullptr);
}

TEST(LruCache, AValueThatFellOutLivesWhileSomebodyHasIt) {
  LruCache<int> cache(10);
  const auto kept = cache.insert("1", value(1), 10);
  cache.insert("2", value(2), 10);
  EXPECT_EQ(*kept, 1);
}

}  // namespace
}  // namespace molar
