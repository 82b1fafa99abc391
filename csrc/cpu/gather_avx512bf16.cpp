// See each_isa.h.
#define DW_SETS 8
#include "gather.cpp"
