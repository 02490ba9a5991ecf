/* The loops of wavelet_spectra.py, and that file says what they compute.

   Each takes one image. A unit of work is a row of pixels, or a map or two of them; units are independent, and `share` of
   `shares` takes every shares-th one. Complex numbers are pairs of floats. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exponential.h"

typedef struct {
    int64_t classes, height, width, maps;
    int64_t of_class, of_row, of_column; /* the logits' strides, in numbers */
    int64_t of_gradient_class, of_gradient_row, of_gradient_column;
} Image;

typedef struct {
    int64_t height, width, maps, levels, pairs;
} Spectra;

/* Of a level's weights: [rows][pairs][2][padded columns], even and odd, from `offset` in the table. A row of the spectrum
   that is `positive` or more from either end has none; 0 is all rows. `ranges` [rows][2] are columns that are not 0,
   in whole vectors. */
typedef struct {
    int64_t offset, positive, columns, first_range;
} Level;

enum { LANES = 16, DOUBLES = 8 };
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * DOUBLES), aligned(8), may_alias));

static inline Lanes lanes(const float *from) { return *(const Lanes *)from; }
static inline Doubles doubles(const double *from) { return *(const Doubles *)from; }
static inline void put(Lanes values, float *to) { *(Lanes *)to = values; }

/* A row of every class, [classes, width], where a class' logits of a row do not lie side by side. */
static const float *row_of(const float *row, const Image *s, float *copy, int64_t *of_class) {
    *of_class = s->of_class;
    if (s->of_column == 1) return row;
    for (int64_t j = 0; j < s->width; j++)
        for (int64_t c = 0; c < s->classes; c++) copy[c * s->width + j] = row[j * s->of_column + c * s->of_class];
    *of_class = s->width;
    return copy;
}

/* shift and inverse [height, width]: the probability of a class is e^(x - shift) * inverse. 1 if out of memory. */
int wavelet_softmax(const float *logits, const Image *s, float *shift, float *inverse, int64_t share, int64_t shares) {
    const int64_t width = s->width;
    float *copy = malloc(sizeof(float) * width * s->classes);
    if (!copy) return 1;
    for (int64_t i = share; i < s->height; i += shares) {
        int64_t of_class;
        const float *row = row_of(logits + i * s->of_row, s, copy, &of_class);
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
    free(copy);
    return 0;
}

/* maps [maps, height, width] of P + i (Y - P), of the classes that are listed. */
int wavelet_maps(const float *logits, const int16_t *labels, const Image *s, const int64_t *classes,
                 const float *shift, const float *inverse, float *maps, int64_t share, int64_t shares) {
    const int64_t width = s->width;
    for (int64_t unit = share; unit < s->maps * s->height; unit += shares) {
        const int64_t class = classes[unit / s->height], i = unit % s->height;
        const float *x = logits + class * s->of_class + i * s->of_row, *top = shift + i * width;
        const float *scale = inverse + i * width;
        const int16_t *label = labels + i * width;
        const int64_t step = s->of_column;
        float *z = maps + 2 * unit * width;
        if (step == 1) {
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                int32_t own = label[j];
                float p = own >= 0 ? exp_(x[j] - top[j]) * scale[j] : 0.0f; /* what does not count may be NaN */
                z[2 * j] = p;
                z[2 * j + 1] = (own == (int32_t)class ? 1.0f : 0.0f) - p;
            }
        } else {
            for (int64_t j = 0; j < width; j++) {
                float p = label[j] >= 0 ? exp_(x[j * step] - top[j]) * scale[j] : 0.0f;
                z[2 * j] = p;
                z[2 * j + 1] = (label[j] == class ? 1.0f : 0.0f) - p;
            }
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

/* sums [maps, levels, pairs, 4]: of |P|^2, |E|^2 and Re(E P*), by even weights, and of Im(E P*) by odd ones. In double
   precision: what M is left of two matrices that are nearly the same. 1 if out of memory. */
int wavelet_grams(const float *spectra, const Spectra *s, const Level *levels, const double *table,
                  const int64_t *ranges, double *sums, int64_t share, int64_t shares) {
    const int64_t half = s->width / 2 + 1, row = padded(half), size = s->levels * s->pairs * 4;
    const int64_t own = share < s->maps ? (s->maps - share - 1) / shares + 1 : 0;
    float *parts = calloc(4 * row + 4 * s->width, sizeof(float));
    double *pp = malloc(sizeof(double) * 4 * row), *ee = pp + row, *re = ee + row, *im = re + row;
    Doubles *totals = calloc(own * size + 1, sizeof(Doubles));
    if (!parts || !pp || !totals) {
        free(parts), free(pp), free(totals);
        return 1;
    }
    const float *p_re = parts, *p_im = p_re + row, *e_re = p_im + row, *e_im = e_re + row;
    /* All maps of a row, so that its weights stay in the cache. */
    for (int64_t i = 0; i < s->height; i++)
        for (int64_t o = 0; o < own; o++) {
            unpacked(spectra + 2 * (share + o * shares) * s->height * s->width, s, i, parts, parts + 4 * row);
#pragma omp simd
            for (int64_t j = 0; j < row; j++) {
                const double a = p_re[j], b = p_im[j], c = e_re[j], d = e_im[j];
                pp[j] = a * a + b * b;
                ee[j] = c * c + d * d;
                re[j] = c * a + d * b;
                im[j] = d * a - c * b;
            }
            for (int64_t l = 0; l < s->levels; l++) {
                const Level *level = levels + l;
                int64_t at = table_row(level, s->height, i);
                if (at < 0) continue;
                const int64_t first = ranges[2 * (level->first_range + at)];
                const int64_t last = ranges[2 * (level->first_range + at) + 1];
                const int64_t columns = padded(level->columns);
                const double *weights = table + level->offset + at * s->pairs * 2 * columns;
                for (int64_t pair = 0; pair < s->pairs; pair++, weights += 2 * columns) {
                    Doubles *sum = totals + o * size + (l * s->pairs + pair) * 4;
                    Doubles of_pp = sum[0], of_ee = sum[1], of_re = sum[2], of_im = sum[3];
                    for (int64_t j = first; j < last; j += DOUBLES) {
                        const Doubles even = doubles(weights + j), odd = doubles(weights + columns + j);
                        of_pp += even * doubles(pp + j);
                        of_ee += even * doubles(ee + j);
                        of_re += even * doubles(re + j);
                        of_im += odd * doubles(im + j);
                    }
                    sum[0] = of_pp, sum[1] = of_ee, sum[2] = of_re, sum[3] = of_im;
                }
            }
        }
    for (int64_t o = 0; o < own; o++)
        for (int64_t k = 0; k < size; k++) {
            double sum = 0;
            for (int lane = 0; lane < DOUBLES; lane++) sum += totals[o * size + k][lane];
            sums[(share + o * shares) * size + k] = sum;
        }
    free(parts), free(pp), free(totals);
    return 0;
}

/* Adds `count` pairs' weights from `table`, each [2, columns], times their factors [3] to the three rows. */
static inline void add_pairs(const float *table, int64_t columns, const float *factors, int count, int64_t first,
                             int64_t last, float *of_p, float *of_e, float *turned) {
    for (int64_t j = first; j < last; j += LANES) {
        Lanes a = lanes(of_p + j), b = lanes(of_e + j), c = lanes(turned + j);
        for (int k = 0; k < count; k++) {
            const Lanes even = lanes(table + 2 * k * columns + j), odd = lanes(table + (2 * k + 1) * columns + j);
            a += factors[3 * k] * even;
            b += factors[3 * k + 1] * even;
            c += factors[3 * k + 2] * odd;
        }
        put(a, of_p + j), put(b, of_e + j), put(c, turned + j);
    }
}

/* Row i of a map's gradient, half a spectrum [2, padded], from factors [levels, pairs, 3] of the table. */
static void gradient_row(const float *z, const Spectra *s, const Level *levels, const float *table,
                         const int64_t *ranges, const float *factors, int64_t i, float *parts, float *gradient) {
    const int64_t row = padded(s->width / 2 + 1);
    const float *p_re = parts, *p_im = p_re + row, *e_re = p_im + row, *e_im = e_re + row;
    float *of_p = parts + 4 * row, *of_e = of_p + row, *turned = of_e + row;
    float *out_re = gradient, *out_im = out_re + row;
    memset(of_p, 0, sizeof(float) * 3 * row);
    unpacked(z, s, i, parts, turned + row);
    for (int64_t l = 0; l < s->levels; l++) {
        const Level *level = levels + l;
        int64_t at = table_row(level, s->height, i);
        if (at < 0) continue;
        const int64_t first = ranges[2 * (level->first_range + at)], last = ranges[2 * (level->first_range + at) + 1];
        const int64_t columns = padded(level->columns);
        const float *weights = table + level->offset + at * s->pairs * 2 * columns, *factor = factors + l * s->pairs * 3;
        int64_t pair = 0;
        for (; pair + 5 <= s->pairs; pair += 5)
            add_pairs(weights + pair * 2 * columns, columns, factor + pair * 3, 5, first, last, of_p, of_e, turned);
        for (; pair < s->pairs; pair++)
            add_pairs(weights + pair * 2 * columns, columns, factor + pair * 3, 1, first, last, of_p, of_e, turned);
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

/* gradients [(maps + 1) / 2, height, width]: spectra of the gradient of one map plus i times that of the next. 1 if out
   of memory. */
int wavelet_gradient(const float *spectra, const Spectra *s, const Level *levels, const float *table,
                     const int64_t *ranges, const float *factors, float *gradients, int64_t share, int64_t shares) {
    const int64_t width = s->width, half = width / 2 + 1, row = padded(half), area = 2 * s->height * width;
    const int64_t twos = (s->maps + 1) / 2, size = s->levels * s->pairs * 3;
    float *parts = calloc(row * 11 + 4 * width, sizeof(float));
    if (!parts) return 1;
    float *first = parts + 7 * row + 4 * width, *second = first + 2 * row;
    for (int64_t i = 0; i < s->height; i++)
        for (int64_t two = share; two < twos; two += shares) {
            const int64_t b = 2 * two;
            gradient_row(spectra + b * area, s, levels, table, ranges, factors + b * size, i, parts, first);
            if (b + 1 < s->maps)
                gradient_row(spectra + (b + 1) * area, s, levels, table, ranges, factors + (b + 1) * size, i, parts,
                             second);
            else
                memset(second, 0, sizeof(float) * 2 * row);
            float *here = gradients + two * area + 2 * i * width;
            float *opposite = gradients + two * area + 2 * ((s->height - i) % s->height) * width;
            opposite += 2 * (width - half + 1);
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

/* gradient of the logits, with its own strides, from gradients of the maps as `wavelet_gradient` lays them out, in place
   of frequencies pixels. 1 if out of memory. */
int wavelet_backward(const float *logits, const int16_t *labels, const Image *s, const int64_t *slots,
                     const float *shift, const float *inverse, const float *gradients, float of_total, float *gradient,
                     int64_t share, int64_t shares) {
    const int64_t width = s->width;
    float *copy = malloc(sizeof(float) * width * (2 * s->classes + 2));
    if (!copy) return 1;
    float *shares_ = copy + width * s->classes, *mean = shares_ + width * s->classes, *scale = mean + width;
    for (int64_t i = share; i < s->height; i += shares) {
        int64_t of_class;
        const float *row = row_of(logits + i * s->of_row, s, copy, &of_class);
        const float *top = shift + i * width;
        for (int64_t j = 0; j < width; j++) scale[j] = inverse[i * width + j] * of_total;
        memset(mean, 0, sizeof(float) * width);
        const int16_t *label = labels + i * width;
        for (int64_t c = 0; c < s->classes; c++) {
            if (slots[c] < 0) continue;
            const float *x = row + c * of_class;
            const float *g = gradients + 2 * ((slots[c] / 2) * s->height + i) * width + slots[c] % 2;
            const float *part = inverse + i * width;
            float *power = shares_ + c * width;
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                power[j] = exp_(x[j] - top[j]);
                mean[j] += power[j] * part[j] * g[2 * j];
            }
        }
        for (int64_t c = 0; c < s->classes; c++) {
            const float *x = row + c * of_class;
            const float *power = shares_ + c * width;
            float *out = s->of_gradient_column == 1 ? gradient + i * s->of_gradient_row + c * s->of_gradient_class
                                                    : shares_ + c * width;
            if (slots[c] < 0) {
#pragma omp simd
                for (int64_t j = 0; j < width; j++) out[j] = -exp_(x[j] - top[j]) * scale[j] * mean[j];
            } else {
                const float *g = gradients + 2 * ((slots[c] / 2) * s->height + i) * width + slots[c] % 2;
#pragma omp simd
                for (int64_t j = 0; j < width; j++) out[j] = power[j] * scale[j] * (g[2 * j] - mean[j]);
            }
            for (int64_t j = 0; j < width; j++)
                if (label[j] < 0) out[j] = 0; /* where logits may be NaN */
        }
        if (s->of_gradient_column != 1)
            for (int64_t j = 0; j < width; j++)
                for (int64_t c = 0; c < s->classes; c++)
                    gradient[i * s->of_gradient_row + j * s->of_gradient_column + c * s->of_gradient_class] =
                        shares_[c * width + j];
    }
    free(copy);
    return 0;
}
