/* The loops of wavelet_spectra.py, and that file says what they compute.

   Each takes one image. A unit of work is a row of pixels, or a map or two of them; units are independent, and `share` of
   `shares` takes every shares-th one. Complex numbers are pairs of floats. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exponential.h"

typedef struct {
    int64_t classes, height, width, maps;
    int64_t of_class, of_row, of_column; /* the logits' strides, in numbers */
} Image;

typedef struct {
    int64_t height, width, maps, levels, orientations;
} Spectra;

/* Of a level's bands: [rows][orientations][padded columns] from `offset` in the table, below 0 where the opposite
   frequency is in the band. A row of the spectrum that is `positive` or more from either end has none; 0 is all rows.
   `ranges` [rows][2] are columns that are not 0, in whole vectors. */
typedef struct {
    int64_t offset, positive, columns, first_range;
} Level;

enum { LANES = 16, DOUBLES = 8, AT_ONCE = 5 };
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * DOUBLES), aligned(8), may_alias));

static inline Lanes lanes(const float *from) { return *(const Lanes *)from; }
static inline Doubles doubles(const double *from) { return *(const Doubles *)from; }
static inline void put(Lanes values, float *to) { *(Lanes *)to = values; }

/* A row of every class, [classes] of `of_class` numbers; in `copy`, `apart` from each other, where columns do not lie side
   by side. */
static const float *row_of(const float *row, const Image *s, float *copy, int64_t apart, int64_t *of_class) {
    *of_class = s->of_class;
    if (s->of_column == 1) return row;
    for (int64_t j = 0; j < s->width; j++)
        for (int64_t c = 0; c < s->classes; c++) copy[c * apart + j] = row[j * s->of_column + c * s->of_class];
    *of_class = apart;
    return copy;
}

/* shift and inverse [height, width]: the probability of a class is e^(x - shift) * inverse. Logits whose columns do not
   lie side by side are copied to `planes` [classes, height, width]. */
int wavelet_softmax(const float *logits, const Image *s, float *planes, float *shift, float *inverse, int64_t share,
                    int64_t shares) {
    const int64_t width = s->width;
    for (int64_t i = share; i < s->height; i += shares) {
        int64_t of_class;
        const float *row = row_of(logits + i * s->of_row, s, planes + i * width, s->height * width, &of_class);
        float *top = shift + i * width, *sum = inverse + i * width;
        memcpy(top, row, sizeof(float) * width);
        memset(sum, 0, sizeof(float) * width);
        for (int64_t c = 1; c < s->classes; c++) {
            const float *x = row + c * of_class;
#pragma omp simd
            for (int64_t j = 0; j < width; j++) top[j] = x[j] > top[j] ? x[j] : top[j];
        }
        for (int64_t c = 0; c < s->classes; c++) {
            const float *x = row + c * of_class;
#pragma omp simd
            for (int64_t j = 0; j < width; j++) sum[j] += exp_(x[j] - top[j]);
        }
        for (int64_t j = 0; j < width; j++) sum[j] = 1.0f / sum[j];
    }
    return 0;
}

/* maps [maps, height, width] of P + i (Y - P), of the classes that are listed. Columns of the logits lie side by side. */
int wavelet_maps(const float *logits, const int16_t *labels, const Image *s, const int64_t *classes, const float *shift,
                 const float *inverse, float *maps, int64_t share, int64_t shares) {
    const int64_t width = s->width;
    for (int64_t unit = share; unit < s->maps * s->height; unit += shares) {
        const int32_t class = (int32_t)classes[unit / s->height];
        const int64_t i = unit % s->height;
        const float *x = logits + class * s->of_class + i * s->of_row, *top = shift + i * width;
        const float *scale = inverse + i * width;
        const int16_t *label = labels + i * width;
        float *z = maps + 2 * unit * width;
#pragma omp simd
        for (int64_t j = 0; j < width; j++) {
            const int32_t own = label[j];
            const float p = own >= 0 ? exp_(x[j] - top[j]) * scale[j] : 0.0f; /* what does not count may be NaN */
            z[2 * j] = p;
            z[2 * j + 1] = (own == class ? 1.0f : 0.0f) - p;
        }
    }
    return 0;
}

/* Columns in whole vectors, and the numbers of such a row. */
static int64_t padded(int64_t columns) { return (columns + LANES - 1) / LANES * LANES; }

/* Columns 0 to width / 2 of row i of the spectra of P and E: real and imaginary parts [4, padded]. `memory` [4, width].
 */
static void unpacked(const float *z, const Spectra *s, int64_t i, float *parts, float *memory) {
    const int64_t width = s->width, half = width / 2 + 1, row = padded(half);
    const float *here = z + 2 * i * width, *there = z + 2 * ((s->height - i) % s->height) * width;
    float *p_re = parts, *p_im = p_re + row, *e_re = p_im + row, *e_im = e_re + row;
    float *re = memory, *im = re + width, *other_re = im + width, *other_im = other_re + width;
#pragma omp simd
    for (int64_t j = 0; j < half; j++) {
        re[j] = 0.5f * here[2 * j];
        im[j] = 0.5f * here[2 * j + 1];
    }
#pragma omp simd
    for (int64_t j = width - half; j < width; j++) {
        other_re[j] = 0.5f * there[2 * j];
        other_im[j] = 0.5f * there[2 * j + 1];
    }
    p_re[0] = re[0] + 0.5f * there[0];
    p_im[0] = im[0] - 0.5f * there[1];
    e_re[0] = im[0] + 0.5f * there[1];
    e_im[0] = 0.5f * there[0] - re[0];
#pragma omp simd
    for (int64_t j = 1; j < half; j++) {
        p_re[j] = re[j] + other_re[width - j];
        p_im[j] = im[j] - other_im[width - j];
        e_re[j] = im[j] + other_im[width - j];
        e_im[j] = other_re[width - j] - re[j];
    }
}

/* The weights' row for row i of the spectrum, or -1. */
static int64_t table_row(const Level *level, int64_t height, int64_t i) {
    if (!level->positive || i < level->positive) return i;
    int64_t from_end = height - i;
    return from_end < level->positive ? 2 * level->positive - 1 - from_end : -1;
}

/* Bands of row i of a level by vectors of columns: [vectors][orientations][2][vector], the parts above and below 0. */
#define SPLIT_BANDS(name, real, vector)                                                                                \
    static void name(const Spectra *s, const float *bands, int64_t columns, const int64_t *range, real *split) {       \
        for (int64_t j = range[0]; j < range[1]; j += vector)                                                          \
            for (int64_t a = 0; a < s->orientations; a++) {                                                            \
                const float *band = bands + a * columns + j;                                                           \
                real *ahead = split + 2 * (j * s->orientations + a * vector), *behind = ahead + vector;                \
                _Pragma("omp simd") for (int k = 0; k < vector; k++) {                                                 \
                    ahead[k] = band[k] > 0 ? band[k] : 0;                                                              \
                    behind[k] = band[k] < 0 ? -band[k] : 0;                                                            \
                }                                                                                                      \
            }                                                                                                          \
    }
SPLIT_BANDS(split_floats, float, LANES)
SPLIT_BANDS(split_doubles, double, DOUBLES)

#define INLINE static inline __attribute__((always_inline))

/* Two halves of the pairs of four orientations: with them known to the compiler no address is computed. */
static const int64_t FIRSTS[2][AT_ONCE] = {{0, 0, 0, 0, 1}, {1, 1, 2, 2, 3}};
static const int64_t SECONDS[2][AT_ONCE] = {{0, 1, 2, 3, 1}, {2, 3, 2, 3, 3}};

/* Adds the columns of `range` to the sums of `count` pairs of orientations, each [4]. */
INLINE void add_to_sums(const double *split, int64_t orientations, const int64_t *a, const int64_t *b, const int count,
                        const int64_t *range, const double *energies, int64_t row, Doubles *sums) {
    Doubles pp[AT_ONCE], ee[AT_ONCE], re[AT_ONCE], im[AT_ONCE];
#pragma GCC unroll 5
    for (int k = 0; k < count; k++)
        pp[k] = sums[4 * k], ee[k] = sums[4 * k + 1], re[k] = sums[4 * k + 2], im[k] = sums[4 * k + 3];
    for (int64_t j = range[0]; j < range[1]; j += DOUBLES) {
        const double *here = split + 2 * j * orientations;
        const Doubles of_pp = doubles(energies + j), of_ee = doubles(energies + row + j);
        const Doubles of_re = doubles(energies + 2 * row + j), of_im = doubles(energies + 3 * row + j);
#pragma GCC unroll 5
        for (int k = 0; k < count; k++) {
            const double *x = here + 2 * DOUBLES * a[k], *y = here + 2 * DOUBLES * b[k];
            const Doubles ahead = doubles(x) * doubles(y), behind = doubles(x + DOUBLES) * doubles(y + DOUBLES);
            const Doubles even = ahead + behind, odd = ahead - behind;
            pp[k] += even * of_pp;
            ee[k] += even * of_ee;
            re[k] += even * of_re;
            im[k] += odd * of_im;
        }
    }
#pragma GCC unroll 5
    for (int k = 0; k < count; k++)
        sums[4 * k] = pp[k], sums[4 * k + 1] = ee[k], sums[4 * k + 2] = re[k], sums[4 * k + 3] = im[k];
}

/* Adds a level's row to its sums [pairs, 4]. */
static void add_row_to_sums(const double *split, int64_t orientations, const int64_t *range, const double *energies,
                            int64_t row, Doubles *sums) {
    if (orientations == 4) {
        add_to_sums(split, 4, FIRSTS[0], SECONDS[0], AT_ONCE, range, energies, row, sums);
        add_to_sums(split, 4, FIRSTS[1], SECONDS[1], AT_ONCE, range, energies, row, sums + 4 * AT_ONCE);
        return;
    }
    for (int64_t a = 0; a < orientations; a++)
        for (int64_t b = a; b < orientations; b++, sums += 4)
            add_to_sums(split, orientations, &a, &b, 1, range, energies, row, sums);
}

/* sums [maps, levels, pairs, 4] of one map or two: of |P|^2, |E|^2 and Re(E P*), by even weights, and of Im(E P*) by odd
   ones. In double precision: what M is left of two matrices that are nearly the same. 1 if out of memory. */
static int gram_sums(const float *spectra, const Spectra *s, const Level *levels, const float *table,
                     const int64_t *ranges, int64_t maps, double *sums) {
    const int64_t row = padded(s->width / 2 + 1), count = s->orientations, pairs = count * (count + 1) / 2;
    const int64_t size = s->levels * pairs * 4, area = 2 * s->height * s->width;
    float *parts = calloc(4 * row + 4 * s->width, sizeof(float));
    double *energies = malloc(sizeof(double) * (4 + 2 * s->levels * count) * row), *split = energies + 4 * row;
    Doubles *totals = calloc(maps * size, sizeof(Doubles));
    const int failed = !parts || !energies || !totals;
    const float *p_re = parts, *p_im = p_re + row, *e_re = p_im + row, *e_im = e_re + row;
    double *pp = energies, *ee = pp + row, *re = ee + row, *im = re + row;
    for (int64_t i = 0; i < s->height && !failed; i++) {
        for (int64_t l = 0; l < s->levels; l++) {
            const int64_t at = table_row(levels + l, s->height, i), columns = padded(levels[l].columns);
            if (at < 0) continue;
            const float *bands = table + levels[l].offset + at * count * columns;
            split_doubles(s, bands, columns, ranges + 2 * (levels[l].first_range + at), split + 2 * l * count * row);
        }
        for (int64_t map = 0; map < maps; map++) {
            unpacked(spectra + map * area, s, i, parts, parts + 4 * row);
#pragma omp simd
            for (int64_t j = 0; j < row; j++) {
                const double a = p_re[j], b = p_im[j], c = e_re[j], d = e_im[j];
                pp[j] = a * a + b * b;
                ee[j] = c * c + d * d;
                re[j] = c * a + d * b;
                im[j] = d * a - c * b;
            }
            for (int64_t l = 0; l < s->levels; l++) {
                const int64_t at = table_row(levels + l, s->height, i);
                if (at < 0) continue;
                const int64_t *range = ranges + 2 * (levels[l].first_range + at);
                Doubles *of_level = totals + map * size + l * pairs * 4;
                add_row_to_sums(split + 2 * l * count * row, count, range, energies, row, of_level);
            }
        }
    }
    for (int64_t k = 0; k < maps * size && !failed; k++) {
        sums[k] = 0;
        for (int lane = 0; lane < DOUBLES; lane++) sums[k] += totals[k][lane];
    }
    free(parts), free(energies), free(totals);
    return failed;
}

/* Inverse of the Cholesky factor of a Hermitian matrix, of which the lower triangle is read, in its place: real and
   imaginary parts [size, size]. The factor's diagonal goes to `diagonal`. 1 where the matrix is not positive definite. */
static int inverse_factor(double *re, double *im, int64_t size, double *diagonal) {
    for (int64_t j = 0; j < size; j++) {
        for (int64_t i = j; i < size; i++) {
            double x = re[i * size + j], y = im[i * size + j];
            for (int64_t k = 0; k < j; k++) {
                const double a = re[i * size + k], b = im[i * size + k], c = re[j * size + k], d = im[j * size + k];
                x -= a * c + b * d;
                y -= b * c - a * d;
            }
            if (i == j) {
                if (!(x > 0)) return 1;
                diagonal[j] = sqrt(x);
            }
            re[i * size + j] = x / diagonal[j];
            im[i * size + j] = i == j ? 0 : y / diagonal[j];
        }
    }
    for (int64_t j = 0; j < size; j++) {
        re[j * size + j] = 1 / diagonal[j];
        for (int64_t i = j + 1; i < size; i++) {
            double x = 0, y = 0;
            for (int64_t k = j; k < i; k++) {
                const double a = re[i * size + k], b = im[i * size + k], c = re[k * size + j], d = im[k * size + j];
                x -= a * c - b * d;
                y -= a * d + b * c;
            }
            re[i * size + j] = x / diagonal[i];
            im[i * size + j] = y / diagonal[i];
            re[j * size + i] = im[j * size + i] = 0;
        }
    }
    return 0;
}

/* values [maps, levels] and factors [maps, levels, pairs, 3] of the gradient's spectra, from `gram_sums` of one map or
   two: what log_det of gram_determinants.py computes. 1 if out of memory. */
static int determinants(const double *sums, const Spectra *s, int64_t maps, double ridge, double alpha, double *values,
                        float *factors) {
    const int64_t count = s->orientations, size = 2 * count, pairs = count * (count + 1) / 2;
    double *re = malloc(sizeof(double) * size * (2 * size + 1));
    if (!re) return 1;
    double *im = re + size * size, *diagonal = im + size * size;
    for (int64_t unit = 0; unit < maps * s->levels; unit++) {
        const double *sum = sums + unit * pairs * 4;
        double energy = 0;
        for (int64_t a = 0, pair = 0; a < count; pair += count - a, a++)
            energy += (sum[4 * pair] + sum[4 * pair + 1] + 2 * sum[4 * pair + 2]) / count;
        const double of_error = alpha + ridge * (energy > alpha ? energy : alpha);
        for (int64_t a = 0, pair = 0; a < count; a++)
            for (int64_t b = a; b < count; b++, pair++) {
                const double *of = sum + 4 * pair, same = a == b;
                const int64_t p = b * size + a, e = p + count * size + count;
                re[p] = of[0] + same * alpha, im[p] = 0;
                re[e] = of[1] + same * of_error, im[e] = 0;
                /* Both of (a, b) and (b, a): the cross matrix is symmetric. */
                const int64_t one = (count + a) * size + b, other = (count + b) * size + a;
                re[one] = re[other] = of[2] - same * alpha;
                im[one] = im[other] = of[3];
            }
        double value = inverse_factor(re, im, size, diagonal) ? NAN : 0;
        for (int64_t k = count; k < size; k++) value += 2 * log(diagonal[k]);
        values[unit] = value;
        for (int64_t a = 0, pair = 0; a < count; a++)
            for (int64_t b = a; b < count; b++, pair++) {
                double p = 0, e = 0, real = 0, imaginary = 0;
                for (int64_t k = count; k < size; k++) {
                    const double *x = re + k * size, *y = im + k * size;
                    p += x[a] * x[b] + y[a] * y[b];
                    e += x[count + a] * x[count + b] + y[count + a] * y[count + b];
                    real += x[a] * x[count + b] + y[a] * y[count + b];
                    imaginary += x[a] * y[count + b] - y[a] * x[count + b];
                    if (a != b) {
                        real += x[b] * x[count + a] + y[b] * y[count + a];
                        imaginary += x[b] * y[count + a] - y[b] * x[count + a];
                    }
                }
                if (a != b) p *= 2, e *= 2;
                float *factor = factors + 3 * (unit * pairs + pair);
                const double lost = value == value ? 0 : NAN;
                factor[0] = (float)(p - real + lost);
                factor[1] = (float)(real - e + lost);
                factor[2] = (float)(imaginary + lost);
            }
    }
    free(re);
    return 0;
}

/* Adds `count` pairs' weights times their factors [3] to the three rows. */
INLINE void add_weights(const float *split, int64_t orientations, const int64_t *a, const int64_t *b, const int count,
                        const float *factors, const int64_t *range, float *of_p, float *of_e, float *turned) {
    Lanes for_p[AT_ONCE], for_e[AT_ONCE], for_turned[AT_ONCE];
#pragma GCC unroll 5
    for (int k = 0; k < count; k++) {
        for_p[k] = factors[3 * k] - (Lanes){0};
        for_e[k] = factors[3 * k + 1] - (Lanes){0};
        for_turned[k] = factors[3 * k + 2] - (Lanes){0};
    }
    for (int64_t j = range[0]; j < range[1]; j += LANES) {
        const float *here = split + 2 * j * orientations;
        Lanes p = lanes(of_p + j), e = lanes(of_e + j), t = lanes(turned + j);
#pragma GCC unroll 5
        for (int k = 0; k < count; k++) {
            const float *x = here + 2 * LANES * a[k], *y = here + 2 * LANES * b[k];
            const Lanes ahead = lanes(x) * lanes(y), behind = lanes(x + LANES) * lanes(y + LANES);
            const Lanes even = ahead + behind, odd = ahead - behind;
            p += for_p[k] * even;
            e += for_e[k] * even;
            t += for_turned[k] * odd;
        }
        put(p, of_p + j), put(e, of_e + j), put(t, turned + j);
    }
}

/* Adds the weights of a level's row times factors [pairs, 3]. */
static void add_row_of_weights(const float *split, int64_t orientations, const float *factors, const int64_t *range,
                               float *of_p, float *of_e, float *turned) {
    if (orientations == 4) {
        add_weights(split, 4, FIRSTS[0], SECONDS[0], AT_ONCE, factors, range, of_p, of_e, turned);
        add_weights(split, 4, FIRSTS[1], SECONDS[1], AT_ONCE, factors + 3 * AT_ONCE, range, of_p, of_e, turned);
        return;
    }
    for (int64_t a = 0; a < orientations; a++)
        for (int64_t b = a; b < orientations; b++, factors += 3)
            add_weights(split, orientations, &a, &b, 1, factors, range, of_p, of_e, turned);
}

/* Row i of a map's gradient, half a spectrum [2, padded], from factors [levels, pairs, 3] and bands that are split. */
static void gradient_row(const float *z, const Spectra *s, const Level *levels, const float *split,
                         const int64_t *ranges, const float *factors, int64_t i, float *parts, float *gradient) {
    const int64_t row = padded(s->width / 2 + 1), count = s->orientations, pairs = count * (count + 1) / 2;
    const float *p_re = parts, *p_im = p_re + row, *e_re = p_im + row, *e_im = e_re + row;
    float *of_p = parts + 4 * row, *of_e = of_p + row, *turned = of_e + row;
    float *out_re = gradient, *out_im = out_re + row;
    memset(of_p, 0, sizeof(float) * 3 * row);
    unpacked(z, s, i, parts, turned + row);
    for (int64_t l = 0; l < s->levels; l++) {
        const int64_t at = table_row(levels + l, s->height, i);
        if (at < 0) continue;
        const int64_t *range = ranges + 2 * (levels[l].first_range + at);
        add_row_of_weights(split + 2 * l * count * row, count, factors + 3 * l * pairs, range, of_p, of_e, turned);
    }
#pragma omp simd
    for (int64_t j = 0; j < row; j++) {
        out_re[j] = of_p[j] * p_re[j] + of_e[j] * e_re[j] - turned[j] * (p_im[j] + e_im[j]);
        out_im[j] = of_p[j] * p_im[j] + of_e[j] * e_im[j] + turned[j] * (p_re[j] + e_re[j]);
    }
    /* The first column holds both a frequency and its opposite, each with half of the weight. */
    out_re[0] *= 2;
    out_im[0] *= 2;
}

/* gradient [height, width]: spectrum of the gradient of one map plus i times that of the next. 1 if out of memory. */
static int gradient_spectrum(const float *spectra, const Spectra *s, const Level *levels, const float *table,
                             const int64_t *ranges, const float *factors, int64_t maps, float *gradient) {
    const int64_t width = s->width, half = width / 2 + 1, row = padded(half), area = 2 * s->height * width;
    const int64_t count = s->orientations, size = 3 * s->levels * count * (count + 1) / 2;
    float *parts = calloc(row * (11 + 2 * s->levels * count) + 4 * width, sizeof(float));
    if (!parts) return 1;
    float *first = parts + 7 * row + 4 * width, *second = first + 2 * row, *split = second + 2 * row;
    for (int64_t i = 0; i < s->height; i++) {
        for (int64_t l = 0; l < s->levels; l++) {
            const int64_t at = table_row(levels + l, s->height, i), columns = padded(levels[l].columns);
            if (at < 0) continue;
            const float *bands = table + levels[l].offset + at * count * columns;
            split_floats(s, bands, columns, ranges + 2 * (levels[l].first_range + at), split + 2 * l * count * row);
        }
        gradient_row(spectra, s, levels, split, ranges, factors, i, parts, first);
        if (maps > 1) gradient_row(spectra + area, s, levels, split, ranges, factors + size, i, parts, second);
        float *here = gradient + 2 * i * width;
        float *opposite = gradient + 2 * ((s->height - i) % s->height) * width + 2 * (width - half + 1);
        const float *first_im = first + row, *second_im = second + row;
#pragma omp simd
        for (int64_t j = 0; j < half; j++) {
            here[2 * j] = first[j] - second_im[j];
            here[2 * j + 1] = first_im[j] + second[j];
        }
#pragma omp simd
        for (int64_t j = 1; j < half; j++) {
            opposite[2 * (half - 1 - j)] = first[j] + second_im[j];
            opposite[2 * (half - 1 - j) + 1] = second[j] - first_im[j];
        }
    }
    free(parts);
    return 0;
}

/* values [maps, levels] from spectra [maps, height, width] of P + iE. A unit is two maps. Where gradients are wanted,
   [(maps + 1) / 2, height, width], they are spectra of the gradient of one map plus i times that of the next. 1 if out of
   memory. */
int wavelet_determinants(const float *spectra, const Spectra *s, const Level *levels, const float *table,
                         const int64_t *ranges, double ridge, double alpha, double *values, float *gradients,
                         int64_t share, int64_t shares) {
    const int64_t area = 2 * s->height * s->width, size = s->levels * s->orientations * (s->orientations + 1) / 2;
    double *sums = malloc(sizeof(double) * 2 * size * 4);
    float *factors = malloc(sizeof(float) * 2 * size * 3);
    int failed = !sums || !factors;
    for (int64_t two = share; two < (s->maps + 1) / 2 && !failed; two += shares) {
        const int64_t maps = 2 * two + 1 < s->maps ? 2 : 1;
        const float *of = spectra + 2 * two * area;
        failed = gram_sums(of, s, levels, table, ranges, maps, sums) ||
                 determinants(sums, s, maps, ridge, alpha, values + 2 * two * s->levels, factors) ||
                 (gradients && gradient_spectrum(of, s, levels, table, ranges, factors, maps, gradients + two * area));
    }
    free(sums), free(factors);
    return failed;
}

/* Of the classes listed, from the gradients of their maps as `wavelet_gradient` lays them out, in place of frequencies
   pixels: slopes [classes, height, width], each times its probability, and their sum, which is added to mean. Columns of
   the logits lie side by side. */
int wavelet_slopes(const float *logits, const int16_t *labels, const Image *s, const int64_t *classes,
                   const float *shift, const float *inverse, const float *gradients, float *slopes, float *mean,
                   int64_t share, int64_t shares) {
    const int64_t width = s->width;
    for (int64_t i = share; i < s->height; i += shares)
        for (int64_t b = 0; b < s->maps; b++) {
            const float *x = logits + classes[b] * s->of_class + i * s->of_row, *top = shift + i * width;
            const float *scale = inverse + i * width, *g = gradients + 2 * ((b / 2) * s->height + i) * width + b % 2;
            const int16_t *label = labels + i * width;
            float *slope = slopes + (classes[b] * s->height + i) * width, *sum = mean + i * width;
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                const float value = exp_(x[j] - top[j]) * scale[j] * g[2 * j];
                slope[j] = label[j] >= 0 ? value : 0.0f;
                sum[j] += slope[j];
            }
        }
    return 0;
}

/* gradient of the logits, with their strides, times `scale`, from `wavelet_slopes` of the classes that are varied; the
   slopes may lie in its place. 1 if out of memory. */
int wavelet_backward(const float *logits, const int16_t *labels, const Image *s, const int8_t *varied,
                     const float *shift, const float *inverse, const float *mean, float scale, const float *slopes,
                     float *gradient, int64_t share, int64_t shares) {
    const int64_t width = s->width;
    float *copy = malloc(sizeof(float) * width * (2 * s->classes + 1));
    if (!copy) return 1;
    float *rows = copy + s->classes * width, *factor = rows + s->classes * width;
    for (int64_t i = share; i < s->height; i += shares) {
        int64_t of_class;
        const float *row = row_of(logits + i * s->of_row, s, copy, width, &of_class);
        const int16_t *label = labels + i * width;
        const float *top = shift + i * width;
        for (int64_t j = 0; j < width; j++) factor[j] = scale * inverse[i * width + j] * mean[i * width + j];
        float *to = gradient + i * s->of_row;
        for (int64_t c = 0; c < s->classes; c++) {
            const float *x = row + c * of_class, *slope = slopes + (c * s->height + i) * width;
            const float of_slope = varied[c] ? scale : 0.0f;
            float *out = s->of_column == 1 ? to + c * s->of_class : rows + c * width;
            if (!varied[c]) slope = factor; /* its own has not been written */
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                const float value = of_slope * slope[j] - exp_(x[j] - top[j]) * factor[j];
                out[j] = label[j] >= 0 ? value : 0.0f; /* where logits may be NaN */
            }
        }
        if (s->of_column != 1)
            for (int64_t j = 0; j < width; j++)
                for (int64_t c = 0; c < s->classes; c++) to[j * s->of_column + c * s->of_class] = rows[c * width + j];
    }
    free(copy);
    return 0;
}
