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
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) {
      order[i] = i;
      fibres_[i].finished = false;
    }
    unsigned finished = 0;
    while (finished < threads) {
      std::shuffle(order.begin(), order.end(), random);
      unsigned waiting = 0;
      for (const unsigned thread : order) {
        if (fibres_[thread].finished) continue;
        resume(thread);
        if (fibres_[thread].finished) {
          ++finished;
        } else {
          ++waiting;
        }
      }
      if (waiting && finished) {
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
    bool finished;
    std::unique_ptr<unsigned char[]> stack;
  };
  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };

  void make_fibre() {
    Fibre& fibre = fibres_.emplace_back();
    fibre.stack.reset(new unsigned char[kStack]);
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, &Emulator::enter, 0);
    // AddressSanitizer would take all of a stack that it knows of for fresh at every switch
    fibre.context.uc_stack = {};
  }

  void resume(unsigned thread) {
    current_ = thread;
    threadIdx.x = thread;
    Fibre& fibre = fibres_[thread];
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fibre.stack.get(), kStack);
#endif
    swapcontext(&main_, &fibre.context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  void leave() {
    Fibre& fibre = fibres_[current_];
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, main_stack_, main_size_);
#endif
    swapcontext(&fibre.context, &main_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, &main_stack_, &main_size_);
#endif
  }

  static void enter();

  // The life of a fibre: the same thread of one block after the other.
  void live() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &main_stack_, &main_size_);
#endif
    for (;;) {
      (*body_)();
      fibres_[current_].finished = true;
      leave();
    }
  }

  ucontext_t main_;
  const void* main_stack_ = nullptr;
  size_t main_size_ = 0;
  unsigned current_ = 0;
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
  if (blocks == 0 || threads == 0 || threads > 1024 || shared_bytes > 48 << 10) {
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

}  // namespace tfcompat_dw::cuda
