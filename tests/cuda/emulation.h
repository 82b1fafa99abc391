// CUDA on the host, for tests: the names that csrc/cuda uses, with the threads of a block as
// fibres.
//
// A block's threads run one at a time, in an order drawn anew for every piece between two barriers:
// what depends on an order that a GPU does not promise comes out wrong sooner or later. Shared
// memory is a heap block of the exact size and starts as NaN. Not shown: races inside a warp,
// and speed. Alignment is checked by UBSan.
#pragma once
#include <cxxabi.h>
#include <dlfcn.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __restrict__
#define __launch_bounds__(...)

namespace tfcompat_dw::cuda {

struct Dim3 {
  unsigned x = 0, y = 0, z = 0;
};
inline Dim3 threadIdx, blockIdx, blockDim, gridDim;

// ---- fibres -------------------------------------------------------------------------------------

class Emulator {
 public:
  // Runs body once for every thread of a block.
  void run_block(unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
    while (fibres_.size() < threads) make_fibre();
    memory_.reset(
        static_cast<unsigned char*>(std::aligned_alloc(16, (shared_bytes + 15) / 16 * 16 + 16)));
    std::memset(memory_.get(), 0xff, (shared_bytes + 15) / 16 * 16 + 16);
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(memory_.get() + (shared_bytes + 7) / 8 * 8,
                              (shared_bytes + 15) / 16 * 16 + 16 - (shared_bytes + 7) / 8 * 8);
#endif
    body_ = &body;
    order_.resize(threads);
    for (unsigned i = 0; i < threads; ++i) {
      order_[i] = i;
      fibres_[i].finished = false;
    }
    unsigned running = threads;
    while (running) {
      std::shuffle(order_.begin(), order_.end(), random);
      next_ = 0;
      switch_contexts(main_, next());
      const unsigned before = running;
      running = 0;
      for (unsigned i = 0; i < threads; ++i) running += !fibres_[i].finished;
      if (running && running < before) {
        throw std::runtime_error("emulation: some threads of a block ended before a barrier");
      }
    }
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(memory_.get(), (shared_bytes + 15) / 16 * 16 + 16);
#endif
  }

  // Called by the running thread: all others of the block come first to this point, too.
  void barrier() { leave(); }

  unsigned char* shared() { return memory_.get(); }

  std::mt19937 random;
  bool all = true;  // of the conditions that all_threads was given

 private:
  static constexpr size_t kStack = 256 << 10;
  struct Fibre {
    ucontext_t context;
    const void* bottom = nullptr;  // of its stack
    size_t size = 0;
    bool finished = false;
    std::unique_ptr<unsigned char[]> stack;
  };
  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };

  void make_fibre() {
    Fibre& fibre = fibres_.emplace_back();
    fibre.stack.reset(new unsigned char[kStack]);
    fibre.bottom = fibre.stack.get();
    fibre.size = kStack;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, &Emulator::enter, 0);
    // AddressSanitizer would take all of a stack that it knows of for fresh at every switch
    fibre.context.uc_stack = {};
  }

  // The fibre that runs after the present one: the next thread, or run_block after the last.
  Fibre& next() {
    while (next_ < order_.size() && fibres_[order_[next_]].finished) ++next_;
    if (next_ == order_.size()) return main_;
    threadIdx.x = order_[next_++];
    return fibres_[threadIdx.x];
  }

  static void switch_contexts(Fibre& from, Fibre& to) {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, to.bottom, to.size);
#endif
    swapcontext(&from.context, &to.context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  void leave() {
    Fibre& own = fibres_[threadIdx.x];
    switch_contexts(own, next());
  }

  static void enter();

  // The life of a fibre: the same thread of one block after the other.
  void live() {
#ifdef __SANITIZE_ADDRESS__
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!main_.size) {  // the first comes from there
      main_.bottom = bottom;
      main_.size = size;
    }
#endif
    for (;;) {
      (*body_)();
      fibres_[threadIdx.x].finished = true;
      leave();
    }
  }

  Fibre main_;                   // run_block itself
  std::vector<unsigned> order_;  // of the threads, in this round
  size_t next_ = 0;
  const std::function<void()>* body_ = nullptr;
  std::deque<Fibre> fibres_;  // a context must not move
  std::unique_ptr<unsigned char, Free> memory_;
};

inline Emulator emulator;
inline void Emulator::enter() { emulator.live(); }

inline void __syncthreads() { emulator.barrier(); }
inline bool all_threads(bool condition) {
  if (!condition) emulator.all = false;
  emulator.barrier();
  const bool result = emulator.all;
  emulator.barrier();
  emulator.all = true;
  return result;
}
inline unsigned char* shared_memory() { return emulator.shared(); }

// ---- launches -----------------------------------------------------------------------------------

struct Launch {
  std::string kernel;
  unsigned blocks, threads;
};
inline std::vector<Launch> launches;  // all, until somebody clears it
inline bool only_planned = false;     // launches are written down, and nothing runs

// gather_planes<float, 3> and the like, from the program's own symbols (-rdynamic).
inline const std::string& kernel_name(const void* kernel) {
  static std::map<const void*, std::string> names;
  std::string& name = names[kernel];
  if (!name.empty()) return name;
  Dl_info symbol = {};
  if (!dladdr(kernel, &symbol) || symbol.dli_saddr != kernel) {
    throw std::runtime_error("emulation: a kernel without a name");
  }
  const std::unique_ptr<char, void (*)(void*)> plain(
      abi::__cxa_demangle(symbol.dli_sname, nullptr, nullptr, nullptr), std::free);
  name = plain.get();
  name.erase(name.find('('));
  for (const std::string part : {"void ", "tfcompat_dw::cuda::"}) {
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
  }
  return name;
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, unsigned shared_bytes,
            void*, const Arguments&... arguments) {
  if (blocks == 0 || threads == 0 || threads > 1024 || shared_bytes > kSharedAsked) {
    throw std::runtime_error("emulation: a launch that a GPU would refuse");
  }
  launches.push_back({kernel_name(reinterpret_cast<const void*>(kernel)), blocks, threads});
  if (only_planned) return;
  gridDim.x = blocks;
  blockDim.x = threads;
  for (unsigned block = 0; block < blocks; ++block) {
    blockIdx.x = block;
    emulator.run_block(threads, shared_bytes, [&] { kernel(arguments...); });
  }
}

// ---- numbers ------------------------------------------------------------------------------------

inline float bfloat16_to_float(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}
inline uint16_t float_to_bfloat16(float value) {
  if (std::isnan(value)) return 0x7fff;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float float16_to_float(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}
inline uint16_t float_to_float16(float value) {
  const _Float16 narrow = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &narrow, 2);
  return bits;
}
inline void float16_pair_to_floats(uint32_t bits, float& first, float& second) {
  first = float16_to_float(static_cast<uint16_t>(bits));
  second = float16_to_float(static_cast<uint16_t>(bits >> 16));
}
inline uint32_t floats_to_bfloat16_pair(float first, float second) {
  return static_cast<uint32_t>(float_to_bfloat16(second)) << 16 | float_to_bfloat16(first);
}
inline uint32_t floats_to_float16_pair(float first, float second) {
  return static_cast<uint32_t>(float_to_float16(second)) << 16 | float_to_float16(first);
}

}  // namespace tfcompat_dw::cuda
