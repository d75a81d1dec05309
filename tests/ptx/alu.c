/* Arithmetic, logic, comparisons, conversions and moves: what a lane does with its own registers.
 */
#include "tests/ptx/machine.h"

#include <math.h>

/* A function over the lanes, of values a, b, c of the sources' types. */
#define LOOP(body)                                                                                 \
    if (lanes == ALL_LANES) {                                                                      \
        _Pragma("GCC ivdep") for (int l = 0; l < LANES; l++)                                       \
        {                                                                                          \
            body;                                                                                  \
        }                                                                                          \
    } else {                                                                                       \
        EACH_LANE(l, lanes)                                                                        \
        {                                                                                          \
            body;                                                                                  \
        }                                                                                          \
    }                                                                                              \
    return true;

#define ONE(name, text, D, A, cls, expr)                                                           \
    FOR_VECTORS static bool run_##name(struct warp *w, const struct ins *i, uint32_t lanes)        \
    {                                                                                              \
        D *to = (D *)row_of(w, i->dst[0]);                                                         \
        const A *from = (const A *)row_of(w, i->src[0]);                                           \
        LOOP(const A a = from[l]; to[l] = (D)(expr))                                               \
    }
#define TWO(name, text, D, A, B, cls, expr)                                                        \
    FOR_VECTORS static bool run_##name(struct warp *w, const struct ins *i, uint32_t lanes)        \
    {                                                                                              \
        D *to = (D *)row_of(w, i->dst[0]);                                                         \
        const A *x = (const A *)row_of(w, i->src[0]);                                              \
        const B *y = (const B *)row_of(w, i->src[1]);                                              \
        LOOP(const A a = x[l]; const B b = y[l]; to[l] = (D)(expr))                                \
    }
#define THREE(name, text, D, A, B, C, cls, expr)                                                   \
    FOR_VECTORS static bool run_##name(struct warp *w, const struct ins *i, uint32_t lanes)        \
    {                                                                                              \
        D *to = (D *)row_of(w, i->dst[0]);                                                         \
        const A *x = (const A *)row_of(w, i->src[0]);                                              \
        const B *y = (const B *)row_of(w, i->src[1]);                                              \
        const C *z = (const C *)row_of(w, i->src[2]);                                              \
        LOOP(const A a = x[l]; const B b = y[l]; const C c = z[l]; to[l] = (D)(expr))              \
    }

/* ---- functions of one lane ---- */

static inline uint32_t quotient_s32(int32_t a, int32_t b)
{
    return b == 0 ? ALL_LANES : b == -1 ? 0u - (uint32_t)a : (uint32_t)(a / b);
}

static inline uint32_t rest_s32(int32_t a, int32_t b)
{
    return b == 0 ? (uint32_t)a : b == -1 ? 0 : (uint32_t)(a % b);
}

static inline uint64_t quotient_s64(int64_t a, int64_t b)
{
    return b == 0 ? UINT64_MAX : b == -1 ? 0ull - (uint64_t)a : (uint64_t)(a / b);
}

static inline uint64_t rest_s64(int64_t a, int64_t b)
{
    return b == 0 ? (uint64_t)a : b == -1 ? 0 : (uint64_t)(a % b);
}

static inline uint64_t high_u64(uint64_t a, uint64_t b)
{
    return (uint64_t)((unsigned __int128)a * b >> 64);
}

static inline uint64_t high_s64(int64_t a, int64_t b)
{
    return (uint64_t)((__int128)a * b >> 64);
}

static inline uint32_t reversed(uint32_t a)
{
    a = (a >> 1 & 0x55555555u) | (a & 0x55555555u) << 1;
    a = (a >> 2 & 0x33333333u) | (a & 0x33333333u) << 2;
    a = (a >> 4 & 0x0f0f0f0fu) | (a & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(a);
}

static inline uint64_t reversed64(uint64_t a)
{
    return (uint64_t)reversed((uint32_t)a) << 32 | reversed((uint32_t)(a >> 32));
}

static inline uint32_t highest(uint32_t a) /* position of the highest 1 */
{
    return a ? 31u - (uint32_t)__builtin_clz(a) : ALL_LANES;
}

/* The shift amount that brings the highest 1 to bit 31. */
static inline uint32_t shift_of(uint32_t a)
{
    return a ? (uint32_t)__builtin_clz(a) : ALL_LANES;
}

static inline uint32_t field_u32(uint32_t a, uint32_t at, uint32_t n)
{
    at &= 0xff;
    n &= 0xff;
    if (at > 31 || n == 0)
        return 0;
    a >>= at;
    return n < 32 ? a & ((1u << n) - 1) : a;
}

/* Bits beyond the source's highest are its sign. */
static inline uint32_t field_s32(uint32_t a, uint32_t at, uint32_t n)
{
    at &= 0xff;
    n &= 0xff;
    if (n == 0)
        return 0;
    uint32_t last = at + n - 1 > 31 ? 31 : at + n - 1, sign = 0u - (a >> last & 1);
    uint32_t x = at > 31 ? sign : (uint32_t)((int32_t)a >> at);
    return n < 32 ? (x & ((1u << n) - 1)) | (sign & ~((1u << n) - 1)) : x;
}

static inline uint32_t permuted(uint32_t a, uint32_t b, uint32_t how)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t pick = how >> 4 * i & 15, x = (uint32_t)(bytes >> 8 * (pick & 7)) & 0xff;
        if (pick & 8)
            x = x & 0x80 ? 0xff : 0;
        d |= x << 8 * i;
    }
    return d;
}

/* min and max: the other where one is NaN; -0 < +0. */
static inline float least(float a, float b)
{
    if (a == b)
        return signbit(a) ? a : b;
    return a < b || b != b ? a : b;
}

static inline float largest(float a, float b)
{
    if (a == b)
        return signbit(a) ? b : a;
    return a > b || b != b ? a : b;
}

static inline float flushed(float a)
{
    return fabsf(a) < 0x1p-126f ? copysignf(0, a) : a;
}

static inline uint32_t bf16(float x) /* nearest even */
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if (x != x)
        return 0x7fff;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

static inline float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* Rounds toward zero (0), nearest (1), down (2), up (3) and stays in [low, high]; NaN: 0. */
static inline double to_integer(double x, int how, double low, double high)
{
    if (x != x)
        return 0;
    double y = how == 0 ? trunc(x) : how == 1 ? nearbyint(x) : how == 2 ? floor(x) : ceil(x);
    return y < low ? low : y > high ? high : y;
}

static inline int64_t to_s64(double x, int how)
{
    double y = to_integer(x, how, -0x1p63, 0x1p63);
    return y >= 0x1p63 ? INT64_MAX : (int64_t)y;
}

static inline uint64_t to_u64(double x, int how)
{
    double y = to_integer(x, how, 0, 0x1p64);
    return y >= 0x1p64 ? UINT64_MAX : (uint64_t)y;
}

#define SHL32(a, b) ((b) > 31 ? 0 : (a) << (b))
#define SHR32(a, b) ((b) > 31 ? 0 : (a) >> (b))
#define SAR32(a, b) ((a) >> ((b) > 31 ? 31 : (b)))
#define SHL64(a, b) ((b) > 63 ? 0 : (a) << (b))
#define SHR64(a, b) ((b) > 63 ? 0 : (a) >> (b))
#define SAR64(a, b) ((a) >> ((b) > 63 ? 63 : (b)))
#define S32(a)      ((int32_t)(a))
#define S64(a)      ((int64_t)(a))
#define HALF_PAIR   ((uint64_t)b << 32 | a)

#define LIST(ONE, TWO, THREE)                                                                      \
    TWO(add_16, "add.s16 add.u16", u16, u16, u16, PTX_INTEGER, a + b)                              \
    TWO(sub_16, "sub.s16 sub.u16", u16, u16, u16, PTX_INTEGER, a - b)                              \
    TWO(mul_16, "mul.lo.s16 mul.lo.u16", u16, u16, u16, PTX_INTEGER, (uint32_t)a *b)               \
    TWO(add_32, "add.s32 add.u32", u32, u32, u32, PTX_INTEGER, a + b)                              \
    TWO(sub_32, "sub.s32 sub.u32", u32, u32, u32, PTX_INTEGER, a - b)                              \
    TWO(mul_32, "mul.lo.s32 mul.lo.u32", u32, u32, u32, PTX_INTEGER, a *b)                         \
    TWO(hi_u32, "mul.hi.u32", u32, u32, u32, PTX_INTEGER, (uint64_t)a *b >> 32)                    \
    TWO(hi_s32, "mul.hi.s32", u32, s32, s32, PTX_INTEGER, (int64_t)a *b >> 32)                     \
    TWO(add_64, "add.s64 add.u64", u64, u64, u64, PTX_INTEGER, a + b)                              \
    TWO(sub_64, "sub.s64 sub.u64", u64, u64, u64, PTX_INTEGER, a - b)                              \
    TWO(mul_64, "mul.lo.s64 mul.lo.u64", u64, u64, u64, PTX_INTEGER, a *b)                         \
    TWO(hi_u64, "mul.hi.u64", u64, u64, u64, PTX_INTEGER, high_u64(a, b))                          \
    TWO(hi_s64, "mul.hi.s64", u64, s64, s64, PTX_INTEGER, high_s64(a, b))                          \
    TWO(wide_u16, "mul.wide.u16", u32, u16, u16, PTX_INTEGER, (uint32_t)a *b)                      \
    TWO(wide_u32, "mul.wide.u32", u64, u32, u32, PTX_INTEGER, (uint64_t)a *b)                      \
    TWO(wide_s32, "mul.wide.s32", u64, s32, s32, PTX_INTEGER, (int64_t)a *b)                       \
    THREE(mad_32, "mad.lo.s32 mad.lo.u32", u32, u32, u32, u32, PTX_INTEGER, a *b + c)              \
    THREE(mad_64, "mad.lo.s64 mad.lo.u64", u64, u64, u64, u64, PTX_INTEGER, a *b + c)              \
    THREE(madw_u32, "mad.wide.u32", u64, u32, u32, u64, PTX_INTEGER, (uint64_t)a *b + c)           \
    THREE(madw_s32, "mad.wide.s32", u64, s32, s32, u64, PTX_INTEGER,                               \
          (uint64_t)((int64_t)a * b) + c)                                                          \
    TWO(div_u32, "div.u32", u32, u32, u32, PTX_INTEGER, b ? a / b : ALL_LANES)                     \
    TWO(div_s32, "div.s32", u32, s32, s32, PTX_INTEGER, quotient_s32(a, b))                        \
    TWO(rem_u32, "rem.u32", u32, u32, u32, PTX_INTEGER, b ? a % b : a)                             \
    TWO(rem_s32, "rem.s32", u32, s32, s32, PTX_INTEGER, rest_s32(a, b))                            \
    TWO(div_u64, "div.u64", u64, u64, u64, PTX_INTEGER, b ? a / b : UINT64_MAX)                    \
    TWO(div_s64, "div.s64", u64, s64, s64, PTX_INTEGER, quotient_s64(a, b))                        \
    TWO(rem_u64, "rem.u64", u64, u64, u64, PTX_INTEGER, b ? a % b : a)                             \
    TWO(rem_s64, "rem.s64", u64, s64, s64, PTX_INTEGER, rest_s64(a, b))                            \
    TWO(min_u32, "min.u32", u32, u32, u32, PTX_INTEGER, a < b ? a : b)                             \
    TWO(min_s32, "min.s32", s32, s32, s32, PTX_INTEGER, a < b ? a : b)                             \
    TWO(max_u32, "max.u32", u32, u32, u32, PTX_INTEGER, a > b ? a : b)                             \
    TWO(max_s32, "max.s32", s32, s32, s32, PTX_INTEGER, a > b ? a : b)                             \
    TWO(min_u64, "min.u64", u64, u64, u64, PTX_INTEGER, a < b ? a : b)                             \
    TWO(min_s64, "min.s64", s64, s64, s64, PTX_INTEGER, a < b ? a : b)                             \
    TWO(max_u64, "max.u64", u64, u64, u64, PTX_INTEGER, a > b ? a : b)                             \
    TWO(max_s64, "max.s64", s64, s64, s64, PTX_INTEGER, a > b ? a : b)                             \
    ONE(neg_16, "neg.s16", u16, u16, PTX_INTEGER, 0u - a)                                          \
    ONE(neg_32, "neg.s32", u32, u32, PTX_INTEGER, 0u - a)                                          \
    ONE(neg_64, "neg.s64", u64, u64, PTX_INTEGER, 0ull - a)                                        \
    ONE(abs_32, "abs.s32", u32, u32, PTX_INTEGER, S32(a) < 0 ? 0u - a : a)                         \
    ONE(abs_64, "abs.s64", u64, u64, PTX_INTEGER, S64(a) < 0 ? 0ull - a : a)                       \
    TWO(and_16, "and.b16", u16, u16, u16, PTX_INTEGER, a &b)                                       \
    TWO(or_16, "or.b16", u16, u16, u16, PTX_INTEGER, a | b)                                        \
    TWO(xor_16, "xor.b16", u16, u16, u16, PTX_INTEGER, a ^ b)                                      \
    ONE(not_16, "not.b16", u16, u16, PTX_INTEGER, ~a)                                              \
    TWO(and_32, "and.b32", u32, u32, u32, PTX_INTEGER, a &b)                                       \
    TWO(or_32, "or.b32", u32, u32, u32, PTX_INTEGER, a | b)                                        \
    TWO(xor_32, "xor.b32", u32, u32, u32, PTX_INTEGER, a ^ b)                                      \
    ONE(not_32, "not.b32", u32, u32, PTX_INTEGER, ~a)                                              \
    TWO(and_64, "and.b64", u64, u64, u64, PTX_INTEGER, a &b)                                       \
    TWO(or_64, "or.b64", u64, u64, u64, PTX_INTEGER, a | b)                                        \
    TWO(xor_64, "xor.b64", u64, u64, u64, PTX_INTEGER, a ^ b)                                      \
    ONE(not_64, "not.b64", u64, u64, PTX_INTEGER, ~a)                                              \
    TWO(shl_16, "shl.b16", u16, u16, u32, PTX_INTEGER, b > 15 ? 0 : (uint32_t)a << b)              \
    TWO(shr_u16, "shr.u16 shr.b16", u16, u16, u32, PTX_INTEGER, b > 15 ? 0 : a >> b)               \
    TWO(shl_32, "shl.b32", u32, u32, u32, PTX_INTEGER, SHL32(a, b))                                \
    TWO(shr_u32, "shr.u32 shr.b32", u32, u32, u32, PTX_INTEGER, SHR32(a, b))                       \
    TWO(shr_s32, "shr.s32", s32, s32, u32, PTX_INTEGER, SAR32(a, b))                               \
    TWO(shl_64, "shl.b64", u64, u64, u32, PTX_INTEGER, SHL64(a, b))                                \
    TWO(shr_u64, "shr.u64 shr.b64", u64, u64, u32, PTX_INTEGER, SHR64(a, b))                       \
    TWO(shr_s64, "shr.s64", s64, s64, u32, PTX_INTEGER, SAR64(a, b))                               \
    THREE(shf_lw, "shf.l.wrap.b32", u32, u32, u32, u32, PTX_INTEGER,                               \
          (HALF_PAIR << (c & 31)) >> 32)                                                           \
    THREE(shf_rw, "shf.r.wrap.b32", u32, u32, u32, u32, PTX_INTEGER, HALF_PAIR >> (c & 31))        \
    THREE(shf_lc, "shf.l.clamp.b32", u32, u32, u32, u32, PTX_INTEGER,                              \
          (HALF_PAIR << (c > 32 ? 32 : c)) >> 32)                                                  \
    THREE(shf_rc, "shf.r.clamp.b32", u32, u32, u32, u32, PTX_INTEGER,                              \
          HALF_PAIR >> (c > 32 ? 32 : c))                                                          \
    ONE(popc_32, "popc.b32", u32, u32, PTX_INTEGER, __builtin_popcount(a))                         \
    ONE(popc_64, "popc.b64", u32, u64, PTX_INTEGER, __builtin_popcountll(a))                       \
    ONE(clz_32, "clz.b32", u32, u32, PTX_INTEGER, a ? __builtin_clz(a) : 32)                       \
    ONE(clz_64, "clz.b64", u32, u64, PTX_INTEGER, a ? __builtin_clzll(a) : 64)                     \
    ONE(brev_32, "brev.b32", u32, u32, PTX_INTEGER, reversed(a))                                   \
    ONE(brev_64, "brev.b64", u64, u64, PTX_INTEGER, reversed64(a))                                 \
    ONE(bfind, "bfind.u32", u32, u32, PTX_INTEGER, highest(a))                                     \
    ONE(bfind_s, "bfind.s32", u32, s32, PTX_INTEGER, highest((uint32_t)(a < 0 ? ~a : a)))          \
    ONE(bfind_at, "bfind.shiftamt.u32", u32, u32, PTX_INTEGER, shift_of(a))                        \
    THREE(bfe_u32, "bfe.u32", u32, u32, u32, u32, PTX_INTEGER, field_u32(a, b, c))                 \
    THREE(bfe_s32, "bfe.s32", u32, u32, u32, u32, PTX_INTEGER, field_s32(a, b, c))                 \
    THREE(prmt, "prmt.b32", u32, u32, u32, u32, PTX_INTEGER, permuted(a, b, c))                    \
    TWO(add_f, "add.f32 add.rn.f32", f32, f32, f32, PTX_FLOAT, a + b)                              \
    TWO(sub_f, "sub.f32 sub.rn.f32", f32, f32, f32, PTX_FLOAT, a - b)                              \
    TWO(mul_f, "mul.f32 mul.rn.f32", f32, f32, f32, PTX_FLOAT, a *b)                               \
    THREE(fma_f, "fma.rn.f32", f32, f32, f32, f32, PTX_FLOAT, __builtin_fmaf(a, b, c))             \
    TWO(div_f, "div.rn.f32 div.full.f32 div.approx.f32", f32, f32, f32, PTX_FLOAT, a / b)          \
    TWO(min_f, "min.f32", f32, f32, f32, PTX_FLOAT, least(a, b))                                   \
    TWO(max_f, "max.f32", f32, f32, f32, PTX_FLOAT, largest(a, b))                                 \
    ONE(neg_f, "neg.f32", u32, u32, PTX_FLOAT, a ^ 0x80000000u)                                    \
    ONE(abs_f, "abs.f32", u32, u32, PTX_FLOAT, a & 0x7fffffffu)                                    \
    ONE(rcp_f, "rcp.rn.f32 rcp.approx.f32 rcp.approx.ftz.f32", f32, f32, PTX_SPECIAL, 1 / a)       \
    ONE(sqrt_f, "sqrt.rn.f32 sqrt.approx.f32", f32, f32, PTX_SPECIAL, sqrtf(a))                    \
    ONE(rsqrt_f, "rsqrt.approx.f32", f32, f32, PTX_SPECIAL, 1 / sqrtf(a))                          \
    ONE(ex2_f, "ex2.approx.f32", f32, f32, PTX_SPECIAL, exp2f(a))                                  \
    ONE(ex2_ftz, "ex2.approx.ftz.f32", f32, f32, PTX_SPECIAL, flushed(exp2f(flushed(a))))          \
    ONE(lg2_f, "lg2.approx.f32", f32, f32, PTX_SPECIAL, log2f(a))                                  \
    ONE(lg2_ftz, "lg2.approx.ftz.f32", f32, f32, PTX_SPECIAL, log2f(flushed(a)))                   \
    TWO(add_d, "add.f64 add.rn.f64", f64, f64, f64, PTX_FLOAT, a + b)                              \
    TWO(sub_d, "sub.f64 sub.rn.f64", f64, f64, f64, PTX_FLOAT, a - b)                              \
    TWO(mul_d, "mul.f64 mul.rn.f64", f64, f64, f64, PTX_FLOAT, a *b)                               \
    THREE(fma_d, "fma.rn.f64", f64, f64, f64, f64, PTX_FLOAT, fma(a, b, c))                        \
    TWO(div_d, "div.rn.f64", f64, f64, f64, PTX_FLOAT, a / b)                                      \
    TWO(pack_bf16, "cvt.rn.bf16x2.f32", u32, f32, f32, PTX_CONVERT, bf16(a) << 16 | bf16(b))       \
    ONE(to_bf16, "cvt.rn.bf16.f32", u16, f32, PTX_CONVERT, bf16(a))                                \
    ONE(of_bf16, "cvt.f32.bf16", f32, u16, PTX_CONVERT, from_bits((uint32_t)a << 16))              \
    ONE(f_s32, "cvt.rn.f32.s32", f32, s32, PTX_CONVERT, a)                                         \
    ONE(f_u32, "cvt.rn.f32.u32", f32, u32, PTX_CONVERT, a)                                         \
    ONE(f_s64, "cvt.rn.f32.s64", f32, s64, PTX_CONVERT, a)                                         \
    ONE(f_u64, "cvt.rn.f32.u64", f32, u64, PTX_CONVERT, a)                                         \
    ONE(d_f, "cvt.f64.f32", f64, f32, PTX_CONVERT, a)                                              \
    ONE(f_d, "cvt.rn.f32.f64", f32, f64, PTX_CONVERT, a)                                           \
    ONE(d_s32, "cvt.rn.f64.s32", f64, s32, PTX_CONVERT, a)                                         \
    ONE(d_u32, "cvt.rn.f64.u32", f64, u32, PTX_CONVERT, a)                                         \
    ONE(d_s64, "cvt.rn.f64.s64", f64, s64, PTX_CONVERT, a)                                         \
    ONE(uz_f, "cvt.rzi.u32.f32", u32, f32, PTX_CONVERT, to_integer(a, 0, 0, 0xffffffffu))          \
    ONE(sz_f, "cvt.rzi.s32.f32", s32, f32, PTX_CONVERT, to_integer(a, 0, INT32_MIN, INT32_MAX))    \
    ONE(sn_f, "cvt.rni.s32.f32", s32, f32, PTX_CONVERT, to_integer(a, 1, INT32_MIN, INT32_MAX))    \
    ONE(sm_f, "cvt.rmi.s32.f32", s32, f32, PTX_CONVERT, to_integer(a, 2, INT32_MIN, INT32_MAX))    \
    ONE(sp_f, "cvt.rpi.s32.f32", s32, f32, PTX_CONVERT, to_integer(a, 3, INT32_MIN, INT32_MAX))    \
    ONE(lz_f, "cvt.rzi.s64.f32", s64, f32, PTX_CONVERT, to_s64(a, 0))                              \
    ONE(lp_f, "cvt.rpi.s64.f32", s64, f32, PTX_CONVERT, to_s64(a, 3))                              \
    ONE(lz_d, "cvt.rzi.s64.f64", s64, f64, PTX_CONVERT, to_s64(a, 0))                              \
    ONE(ulz_f, "cvt.rzi.u64.f32", u64, f32, PTX_CONVERT, to_u64(a, 0))                             \
    ONE(fn_f, "cvt.rni.f32.f32", f32, f32, PTX_CONVERT, nearbyintf(a))                             \
    ONE(fm_f, "cvt.rmi.f32.f32", f32, f32, PTX_CONVERT, floorf(a))                                 \
    ONE(fp_f, "cvt.rpi.f32.f32", f32, f32, PTX_CONVERT, ceilf(a))                                  \
    ONE(fz_f, "cvt.rzi.f32.f32", f32, f32, PTX_CONVERT, truncf(a))                                 \
    ONE(cvt_64_s32, "cvt.s64.s32 cvt.u64.s32", s64, s32, PTX_CONVERT, a)                           \
    ONE(cvt_64_u32, "cvt.u64.u32 cvt.s64.u32", u64, u32, PTX_CONVERT, a)                           \
    ONE(cvt_32_64, "cvt.u32.u64 cvt.s32.s64 cvt.u32.s64 cvt.s32.u64", u32, u64, PTX_CONVERT, a)    \
    ONE(cvt_32_32, "cvt.u32.s32 cvt.s32.u32", u32, u32, PTX_CONVERT, a)                            \
    ONE(cvt_16_32, "cvt.u16.u32 cvt.s16.s32 cvt.u16.s32 cvt.s16.u32", u16, u32, PTX_CONVERT, a)    \
    ONE(cvt_16_64, "cvt.u16.u64 cvt.s16.s64", u16, u64, PTX_CONVERT, a)                            \
    ONE(cvt_u32_16, "cvt.u32.u16 cvt.s32.u16", u32, u16, PTX_CONVERT, a)                           \
    ONE(cvt_s32_16, "cvt.s32.s16 cvt.u32.s16", s32, u16, PTX_CONVERT, (int16_t)a)                  \
    ONE(cvt_u64_16, "cvt.u64.u16 cvt.s64.u16", u64, u16, PTX_CONVERT, a)                           \
    ONE(cvt_s64_16, "cvt.s64.s16 cvt.u64.s16", s64, u16, PTX_CONVERT, (int16_t)a)                  \
    ONE(cvt_u8_16, "cvt.u16.u8 cvt.s16.u8", u16, u16, PTX_CONVERT, a & 0xff)                       \
    ONE(cvt_s8_16, "cvt.s16.s8", u16, u16, PTX_CONVERT, (int8_t)a)                                 \
    ONE(cvt_u8_32, "cvt.u32.u8 cvt.s32.u8", u32, u32, PTX_CONVERT, a & 0xff)                       \
    ONE(cvt_s8_32, "cvt.s32.s8", u32, u32, PTX_CONVERT, (int8_t)a)                                 \
    ONE(cvta, "cvta.to.global.u64 cvta.global.u64", u64, u64, PTX_MOVE, a)                         \
    ONE(to_shared, "cvta.to.shared.u64", u64, u64, PTX_MOVE, a - WINDOW(SPACE_SHARED))             \
    ONE(to_local, "cvta.to.local.u64", u64, u64, PTX_MOVE, a - WINDOW(SPACE_LOCAL))                \
    ONE(shared_to, "cvta.shared.u64", u64, u64, PTX_MOVE, a + WINDOW(SPACE_SHARED))                \
    ONE(local_to, "cvta.local.u64", u64, u64, PTX_MOVE, a + WINDOW(SPACE_LOCAL))                   \
    ONE(param_to, "cvta.param.u64", u64, u64, PTX_MOVE, a + WINDOW(SPACE_PARAM))                   \
    ONE(mov_16, "mov.b16 mov.u16 mov.s16", u16, u16, PTX_MOVE, a)                                  \
    ONE(mov_32, "mov.b32 mov.u32 mov.s32 mov.f32", u32, u32, PTX_MOVE, a)                          \
    ONE(mov_64, "mov.b64 mov.u64 mov.s64 mov.f64", u64, u64, PTX_MOVE, a)

LIST(ONE, TWO, THREE)

/* ---- what has more operands, or takes predicates ---- */

static inline uint32_t pred_of(const struct warp *w, int p)
{
    return p >= 0 ? w->preds[p] : ~w->preds[~p];
}

static inline void pred_set(struct warp *w, int p, uint32_t lanes, uint32_t bits)
{
    w->preds[p] = (w->preds[p] & ~lanes) | (bits & lanes);
}

#define SELECT(T)                                                                                  \
    static bool run_selp_##T(struct warp *w, const struct ins *i, uint32_t lanes)                  \
    {                                                                                              \
        T *to = (T *)row_of(w, i->dst[0]);                                                         \
        const T *a = (const T *)row_of(w, i->src[0]), *b = (const T *)row_of(w, i->src[1]);        \
        uint32_t p = pred_of(w, i->src[2]);                                                        \
        LOOP(to[l] = p >> l & 1 ? a[l] : b[l])                                                     \
    }
SELECT(u16)
SELECT(u32)
SELECT(u64)

static bool run_bfi(struct warp *w, const struct ins *i, uint32_t lanes)
{
    u32 *to = row_of(w, i->dst[0]);
    const u32 *a = row_of(w, i->src[0]), *b = row_of(w, i->src[1]), *c = row_of(w, i->src[2]),
              *d = row_of(w, i->src[3]);
    EACH_LANE(l, lanes)
    {
        uint32_t at = c[l] & 0xff, n = d[l] & 0xff;
        uint64_t field = ((1ull << (n > 32 ? 32 : n)) - 1) << (at > 32 ? 32 : at);
        to[l] = (uint32_t)((b[l] & ~field) | ((uint64_t)a[l] << (at > 32 ? 32 : at) & field));
    }
    return true;
}

static bool run_lop3(struct warp *w, const struct ins *i, uint32_t lanes)
{
    u32 *to = row_of(w, i->dst[0]);
    const u32 *a = row_of(w, i->src[0]), *b = row_of(w, i->src[1]), *c = row_of(w, i->src[2]),
              *table = row_of(w, i->src[3]);
    EACH_LANE(l, lanes)
    {
        uint32_t d = 0;
        for (uint32_t k = 0; k < 8; k++)
            if (table[l] >> k & 1)
                d |= (k & 4 ? a[l] : ~a[l]) & (k & 2 ? b[l] : ~b[l]) & (k & 1 ? c[l] : ~c[l]);
        to[l] = d;
    }
    return true;
}

#define PREDICATE(name, expr)                                                                      \
    static bool run_##name(struct warp *w, const struct ins *i, uint32_t lanes)                    \
    {                                                                                              \
        uint32_t a = pred_of(w, i->src[0]), b = i->srcs > 1 ? pred_of(w, i->src[1]) : 0;           \
        (void)b;                                                                                   \
        pred_set(w, i->dst[0], lanes, expr);                                                       \
        return true;                                                                               \
    }
PREDICATE(and_p, a &b)
PREDICATE(or_p, a | b)
PREDICATE(xor_p, a ^ b)
PREDICATE(not_p, ~a)
PREDICATE(mov_p, a)

struct row {
    const char *names; /* apart by one space */
    ins_run *run;
    const char *operands; /* destination, then sources: sizes as in size_of */
    enum ptx_class cls;
};

#define ROW1(name, text, D, A, cls, expr)       {text, run_##name, #D " " #A, cls},
#define ROW2(name, text, D, A, B, cls, expr)    {text, run_##name, #D " " #A " " #B, cls},
#define ROW3(name, text, D, A, B, C, cls, expr) {text, run_##name, #D " " #A " " #B " " #C, cls},

static const struct row rows[] = {
    LIST(ROW1, ROW2, ROW3){"selp.b16 selp.u16 selp.s16", run_selp_u16, "u16 u16 u16 p", PTX_MOVE},
    {"selp.b32 selp.u32 selp.s32 selp.f32", run_selp_u32, "u32 u32 u32 p", PTX_MOVE},
    {"selp.b64 selp.u64 selp.s64 selp.f64", run_selp_u64, "u64 u64 u64 p", PTX_MOVE},
    {"bfi.b32", run_bfi, "u32 u32 u32 u32 u32", PTX_INTEGER},
    {"lop3.b32", run_lop3, "u32 u32 u32 u32 u32", PTX_INTEGER},
    {"and.pred", run_and_p, "p p p", PTX_COMPARE},
    {"or.pred", run_or_p, "p p p", PTX_COMPARE},
    {"xor.pred", run_xor_p, "p p p", PTX_COMPARE},
    {"not.pred", run_not_p, "p p", PTX_COMPARE},
    {"mov.pred", run_mov_p, "p p", PTX_COMPARE},
};

/* ---- setp ---- */

static void combine(struct warp *w, const struct ins *i, uint32_t lanes, uint32_t bits)
{
    uint32_t c = i->srcs > 2 ? pred_of(w, i->src[2]) : 0;
    if (i->dsts > 1) {
        uint32_t no = ~bits;
        pred_set(w, i->dst[1], lanes,
                 i->how == 1   ? no & c
                 : i->how == 2 ? no | c
                 : i->how == 3 ? no ^ c
                               : no);
    }
    bits = i->how == 1 ? bits & c : i->how == 2 ? bits | c : i->how == 3 ? bits ^ c : bits;
    pred_set(w, i->dst[0], lanes, bits);
}

#define COMPARE(name, T, expr)                                                                     \
    FOR_VECTORS static bool run_set_##name##_##T(struct warp *w, const struct ins *i,              \
                                                 uint32_t lanes)                                   \
    {                                                                                              \
        const T *x = (const T *)row_of(w, i->src[0]), *y = (const T *)row_of(w, i->src[1]);        \
        uint32_t bits = 0;                                                                         \
        for (int l = 0; l < LANES; l++) {                                                          \
            const T a = x[l], b = y[l];                                                            \
            bits |= (uint32_t)(expr) << l;                                                         \
        }                                                                                          \
        combine(w, i, lanes, bits);                                                                \
        return true;                                                                               \
    }

typedef int16_t __attribute__((may_alias)) s16;
#define COMPARES(X, T)                                                                             \
    X(eq, T, a == b)                                                                               \
    X(ne, T, a != b) X(lt, T, a < b) X(le, T, a <= b) X(gt, T, a > b) X(ge, T, a >= b)
#define ORDERED(X, T)                                                                              \
    X(eq, T, a == b)                                                                               \
    X(ne, T, a == a && b == b && a != b)                                                           \
    X(lt, T, a < b)                                                                                \
    X(le, T, a <= b)                                                                               \
    X(gt, T, a > b)                                                                                \
    X(ge, T, a >= b)                                                                               \
    X(equ, T, !(a == a && b == b) || a == b)                                                       \
    X(neu, T, a != b)                                                                              \
    X(ltu, T, !(a >= b))                                                                           \
    X(leu, T, !(a > b))                                                                            \
    X(gtu, T, !(a <= b)) X(geu, T, !(a < b)) X(num, T, a == a && b == b) X(nan, T, a != a || b != b)

COMPARES(COMPARE, u16)
COMPARES(COMPARE, s16)
COMPARES(COMPARE, u32)
COMPARES(COMPARE, s32)
COMPARES(COMPARE, u64)
COMPARES(COMPARE, s64)
ORDERED(COMPARE, f32)
ORDERED(COMPARE, f64)

#define COMPARE_ROW(name, T, expr) {#name, #T, run_set_##name##_##T},
static const struct {
    const char *name, *type;
    ins_run *run;
} compares[] = {COMPARES(COMPARE_ROW, u16) COMPARES(COMPARE_ROW, s16) COMPARES(COMPARE_ROW, u32)
                    COMPARES(COMPARE_ROW, s32) COMPARES(COMPARE_ROW, u64) COMPARES(COMPARE_ROW, s64)
                        ORDERED(COMPARE_ROW, f32) ORDERED(COMPARE_ROW, f64)};

static int bits_of(const char *type)
{
    return *type == 'p' ? 1 : type[1] == '1' ? 16 : type[1] == '3' ? 32 : 64;
}

static ins_run *compare_of(const char *name, const char *type)
{
    static const char *const other[][2] = {{"lo", "lt"}, {"ls", "le"}, {"hi", "gt"}, {"hs", "ge"}};
    char plain[4] = {type[0] == 'b' ? 'u' : type[0], type[1], type[2], 0};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(name, other[i][0]) == 0)
            name = other[i][1];
    for (size_t i = 0; i < sizeof compares / sizeof *compares; i++)
        if (strcmp(compares[i].name, name) == 0 && strcmp(compares[i].type, plain) == 0)
            return compares[i].run;
    return NULL;
}

static bool decode_compare(struct decoder *d)
{
    static const char *const logic[] = {"", "and", "or", "xor"};
    const struct operand *o = d->s->operand;
    bool more = d->parts == 4;
    const char *type = d->part[d->parts - 1];
    if (d->parts < 3 || d->parts > 4 || strlen(type) != 3)
        return decode_wrong(d, "a comparison that this machine does not know");
    d->i->run = compare_of(d->part[1], type);
    if (more)
        for (int k = 1; k < 4; k++)
            if (strcmp(d->part[2], logic[k]) == 0)
                d->i->how = (uint8_t)k;
    if (!d->i->run || (more && !d->i->how))
        return decode_wrong(d, "a comparison that this machine does not know");
    int bits = bits_of(type);
    d->i->cls = PTX_COMPARE;
    return decode_operands(d, more ? 4 : 3) && decode_dst(d, &o[0], 1) &&
           (!o[0].second || decode_dst(d, o[0].second, 1)) && decode_src(d, &o[1], bits) &&
           decode_src(d, &o[2], bits) && (!more || decode_src(d, &o[3], 1));
}

/* ---- mov of vectors ---- */

/* One register from or to several: parts of 16 or 32 bits, the first lowest. */
static bool run_pack(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        uint64_t x = 0;
        int at = 0;
        for (int k = 0; k < i->srcs; k++) {
            uint64_t part = i->src_bits[k] == 64   ? ((u64 *)row_of(w, i->src[k]))[l]
                            : i->src_bits[k] == 32 ? row_of(w, i->src[k])[l]
                                                   : ((u16 *)row_of(w, i->src[k]))[l];
            x |= part << at;
            at += i->src_bits[k];
        }
        for (int k = 0; k < i->dsts; k++) {
            if (i->dst_bits[k] == 64)
                ((u64 *)row_of(w, i->dst[k]))[l] = x;
            else if (i->dst_bits[k] == 32)
                row_of(w, i->dst[k])[l] = (uint32_t)x;
            else
                ((u16 *)row_of(w, i->dst[k]))[l] = (uint16_t)x;
            x = i->dst_bits[k] == 64 ? 0 : x >> i->dst_bits[k];
        }
    }
    return true;
}

static bool decode_pack(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    int bits = d->parts == 2 ? bits_of(d->part[1]) : 0;
    d->i->run = run_pack;
    d->i->cls = PTX_MOVE;
    for (int k = 0; k < 2; k++) {
        int n = o[k].kind == OPERAND_VECTOR ? o[k].parts : 1;
        const struct operand *part = o[k].kind == OPERAND_VECTOR ? o[k].part : &o[k];
        if (bits == 0 || n < 1 || bits % n || bits / n < 16)
            return decode_wrong(d, "a vector that does not fill the register");
        for (int j = 0; j < n; j++)
            if (!(k ? decode_src : decode_dst)(d, &part[j], bits / n))
                return false;
    }
    return true;
}

/* ---- cvt between integers in registers wider than they are ---- */

/* value: bits of the source's type | signed << 8 | bits of the destination's << 16 | signed << 24.
 */
static bool run_cvt(struct warp *w, const struct ins *i, uint32_t lanes)
{
    unsigned from = 64 - (i->value & 0xff), to = 64 - (i->value >> 16 & 0xff);
    EACH_LANE(l, lanes)
    {
        const uint32_t *row = row_of(w, i->src[0]);
        uint64_t x = i->src_bits[0] == 64   ? ((const u64 *)row)[l]
                     : i->src_bits[0] == 32 ? row[l]
                                            : ((const u16 *)row)[l];
        x = i->value >> 8 & 1 ? (uint64_t)((int64_t)(x << from) >> from) : x << from >> from;
        x = i->value >> 24 & 1 ? (uint64_t)((int64_t)(x << to) >> to) : x << to >> to;
        if (i->dst_bits[0] == 64)
            ((u64 *)row_of(w, i->dst[0]))[l] = x;
        else if (i->dst_bits[0] == 32)
            row_of(w, i->dst[0])[l] = (uint32_t)x;
        else
            ((u16 *)row_of(w, i->dst[0]))[l] = (uint16_t)x;
    }
    return true;
}

static int integer_bits(const char *type)
{
    static const char *const known[] = {"8", "16", "32", "64"};
    for (int k = 0; k < 4; k++)
        if ((type[0] == 'u' || type[0] == 's') && strcmp(type + 1, known[k]) == 0)
            return 8 << k;
    return 0;
}

static int reg_bits(const struct operand *o)
{
    return o->kind == OPERAND_REG && o->type != REG_PRED ? 8 << o->type : 0;
}

static bool decode_cvt(struct decoder *d, bool *known)
{
    const struct operand *o = d->s->operand;
    *known = false;
    if (strcmp(d->part[0], "cvt") || d->parts != 3 || d->s->operands != 2)
        return true;
    int to = integer_bits(d->part[1]), from = integer_bits(d->part[2]);
    int wide = reg_bits(&o[0]), source = reg_bits(&o[1]);
    *known = to && from && wide >= to && source >= from && (source > 8 && wide > 8) &&
             (wide != to || source != from);
    if (!*known)
        return true;
    d->i->run = run_cvt;
    d->i->cls = PTX_CONVERT;
    d->i->value = (uint64_t)from | (uint64_t)(d->part[2][0] == 's') << 8 | (uint64_t)to << 16 |
                  (uint64_t)(d->part[1][0] == 's') << 24;
    return decode_dst(d, &o[0], wide) && decode_src(d, &o[1], source);
}

/* ---- */

static bool names(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, n) == 0 && (at[n] == ' ' || at[n] == 0))
            return true;
    }
    return false;
}

static bool decode_row(struct decoder *d, const struct row *r)
{
    const char *want = r->operands;
    const struct operand *o = d->s->operand;
    int n = 1;
    for (const char *at = want; *at; at++)
        n += *at == ' ';
    d->i->run = r->run;
    d->i->cls = (uint8_t)r->cls;
    if (!decode_operands(d, n))
        return false;
    for (int k = 0; k < n; k++) {
        if (!(k ? decode_src : decode_dst)(d, &o[k], bits_of(want)))
            return false;
        want = strchr(want, ' ');
        want += want ? 1 : 0;
    }
    if (strcmp(d->part[0], "mov") == 0)
        d->i->flags |= INS_COPY;
    return true;
}

bool decode_alu(struct decoder *d, bool *known)
{
    const struct operand *o = d->s->operand;
    *known = true;
    if (strcmp(d->part[0], "setp") == 0)
        return decode_compare(d);
    if (strcmp(d->part[0], "mov") == 0 && d->s->operands == 2 &&
        (o[0].kind == OPERAND_VECTOR || o[1].kind == OPERAND_VECTOR))
        return decode_pack(d);
    if (!decode_cvt(d, known) || *known)
        return *known;
    *known = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (names(rows[i].names, d->s->op))
            return decode_row(d, &rows[i]);
    *known = false;
    return true;
}
