// Prints what this machine can do, as JSON: {"flops": F, "copies": [[bytes, bytes per second],
// ...]} Usage: rates THREADS
//
// Copies move from one buffer to another, over and over; bytes count what is read and written. Each
// thread has a part of both. The fastest of three ways counts: memcpy, vectors with ordinary
// stores, vectors with non-temporal stores. Multiply-adds run on registers alone.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
// An operand of inline assembly that keeps a vector in a register.
#if defined(__aarch64__)
#define IN_REGISTER "+w"
#else
#define IN_REGISTER "+x"
#endif
using Vector = float __attribute__((vector_size(kVectorBytes)));
constexpr int kTrials = 7;
constexpr double kTrialSeconds = 0.012;

double now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Seconds from the common start until every thread is through its `repeats` of work(thread).
double timed(int threads, int64_t repeats, const std::function<void(int)>& work) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> others;
  const auto loop = [&](int thread) {
    for (int64_t i = 0; i < repeats; ++i) work(thread);
  };
  for (int thread = 1; thread < threads; ++thread) {
    others.emplace_back([&, thread] {
      work(thread);  // warms its caches
      ++ready;
      while (!go) {
      }
      loop(thread);
    });
  }
  work(0);
  while (ready < threads - 1) {
  }
  const double start = now();
  go = true;
  loop(0);
  for (std::thread& other : others) other.join();
  return now() - start;
}

// The median, over the trials, of the seconds that one repetition takes.
double seconds(int threads, const std::function<void(int)>& work) {
  int64_t repeats = 1;
  while (timed(threads, repeats, work) < kTrialSeconds && repeats < (int64_t{1} << 40)) {
    repeats *= 2;
  }
  std::vector<double> trials;
  for (int i = 0; i < kTrials; ++i) {
    trials.push_back(timed(threads, repeats, work) / static_cast<double>(repeats));
  }
  std::sort(trials.begin(), trials.end());
  return trials[kTrials / 2];
}

// ---- copies -------------------------------------------------------------------------------------

enum class Way { kMemcpy, kOrdinary, kNonTemporal };

void copy_ordinary(Vector* to, const Vector* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    Vector value = from[i];
    asm volatile("" : IN_REGISTER(value));  // keeps the compiler from calling memcpy
    to[i] = value;
  }
}

void store_past_caches(Vector* to, Vector value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float*>(to), value);
#elif defined(__AVX__)
  _mm256_stream_ps(reinterpret_cast<float*>(to), value);
#elif defined(__SSE2__)
  _mm_stream_ps(reinterpret_cast<float*>(to), value);
#else
  *to = value;
#endif
}

void copy_past_caches(Vector* to, const Vector* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) store_past_caches(to + i, from[i]);
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Bytes per second of copies that move `moved` bytes in all, half read and half written.
double copy_rate(int threads, int64_t moved, Vector* to, const Vector* from) {
  const int64_t share = moved / 2 / threads / kVectorBytes;  // vectors per thread
  double best = 0;
  for (const Way way : {Way::kMemcpy, Way::kOrdinary, Way::kNonTemporal}) {
    const double time = seconds(threads, [&](int thread) {
      Vector* target = to + thread * share;
      const Vector* source = from + thread * share;
      switch (way) {
        case Way::kMemcpy: std::memcpy(target, source, share * kVectorBytes); break;
        case Way::kOrdinary: copy_ordinary(target, source, share); break;
        case Way::kNonTemporal: copy_past_caches(target, source, share); break;
      }
      asm volatile("" : : "r"(target) : "memory");
    });
    best = std::max(best, static_cast<double>(2 * share * kVectorBytes * threads) / time);
  }
  return best;
}

// ---- multiply-adds ------------------------------------------------------------------------------

// Enough independent sums to hide the latency of two units; they fit into 16 registers.
constexpr int kSums = 12;
constexpr int64_t kSteps = 20000;

void multiply_add() {
  Vector sums[kSums] = {};
  Vector factor = sums[0] + 0.5f;
  Vector term = sums[0] + 0.25f;
  for (int64_t step = 0; step < kSteps; ++step) {
    asm volatile("" : IN_REGISTER(factor), IN_REGISTER(term));
    for (Vector& sum : sums) sum = sum * factor + term;
    for (Vector& sum : sums) asm volatile("" : IN_REGISTER(sum));
  }
}

double flop_rate(int threads) {
  const double time = seconds(threads, [](int) { multiply_add(); });
  return 2.0 * kSums * kSteps * (kVectorBytes / sizeof(float)) * threads / time;
}

}  // namespace

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
  if (threads < 1) {
    std::fprintf(stderr, "usage: rates THREADS\n");
    return 2;
  }
  constexpr int64_t kLargest = int64_t{1} << 28;
  const auto buffer = [] {
    void* memory = std::aligned_alloc(4096, kLargest / 2);
    if (memory == nullptr) std::abort();
    std::memset(memory, 1, kLargest / 2);
    return static_cast<Vector*>(memory);
  };
  Vector* const to = buffer();
  const Vector* const from = buffer();
  std::printf("{\"flops\": %.6g, \"copies\": [", flop_rate(threads));
  // from 16 KiB per thread on: below, starting a loop is what takes the time
  int64_t smallest = int64_t{1} << 14;
  while (smallest < (int64_t{threads} << 14)) smallest *= 2;
  for (int64_t moved = smallest; moved <= kLargest; moved *= 2) {
    const double rate = copy_rate(threads, moved, to, from);
    std::printf("%s[%lld, %.6g]", moved > smallest ? ", " : "", static_cast<long long>(moved),
                rate);
  }
  std::printf("]}\n");
}
