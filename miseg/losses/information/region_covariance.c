/* The loops of region_covariance.py, and that file says what they compute.

   Maps are independent, and `share` of `shares` takes every shares-th one. They come in single or double precision and
   are centred and computed with in double precision. A shift of a region is a pointer into the map: nothing is
   unfolded. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t count, height, width, region;
    int64_t bytes; /* of a number in a map: 4 or 8 */
} Maps;

/* Both maps less their averages, probabilities first: [2, height * width]. */
static void centre(const void *probabilities, const void *truth, int64_t map, const Maps *m, double *found) {
    const int64_t size = m->height * m->width;
    for (int64_t kind = 0; kind < 2; kind++) {
        const void *values = kind ? truth : probabilities;
        double *out = found + kind * size, sum = 0;
        if (m->bytes == 4)
            for (int64_t i = 0; i < size; i++) out[i] = ((const float *)values)[map * size + i];
        else
            memcpy(out, (const double *)values + map * size, sizeof(double) * size);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < size; i++) sum += out[i];
        const double mean = sum / (double)size;
        for (int64_t i = 0; i < size; i++) out[i] -= mean;
    }
}

/* Products of a row with four others. Four sums that do not wait for each other are computed in the time of one. */
static inline void four_products(const double *left, const double *const *right, int64_t length, double *found) {
    const double *p = right[0], *q = right[1], *r = right[2], *s = right[3];
    double with_p = 0, with_q = 0, with_r = 0, with_s = 0;
#pragma omp simd reduction(+ : with_p, with_q, with_r, with_s)
    for (int64_t j = 0; j < length; j++) {
        with_p += left[j] * p[j];
        with_q += left[j] * q[j];
        with_r += left[j] * r[j];
        with_s += left[j] * s[j];
    }
    found[0] = with_p, found[1] = with_q, found[2] = with_r, found[3] = with_s;
}

/* sums [count, 2d, 2d] of products of centred vectors, and means [count, 2d] of what `centre` makes, for the maps that
   `index` names. Vectors are ordered by kind, row and column of their shift. 1 if out of memory. */
int region_sums(const void *probabilities, const void *truth, const int64_t *index, const Maps *m, double *sums,
                double *means, int64_t share, int64_t shares) {
    const int64_t R = m->region, d = R * R, width = m->width;
    const int64_t rows = m->height - R + 1, columns = width - R + 1, size = m->height * width;
    double *maps = malloc(sizeof(double) * 2 * size + sizeof(int64_t) * 4 * R);
    if (!maps) return 1;
    /* Of kind and column of a shift: where its row starts in the maps, and its place among the vectors in row 0. */
    int64_t *start = (int64_t *)(maps + 2 * size), *place = start + 2 * R;
    for (int64_t a = 0; a < 2 * R; a++) {
        start[a] = a / R * size + a % R;
        place[a] = a / R * d + a % R;
    }
    for (int64_t n = share; n < m->count; n += shares) {
        double *sum = sums + n * 4 * d * d, *mean = means + n * 2 * d;
        centre(probabilities, truth, index[n], m, maps);
        memset(sum, 0, sizeof(double) * 4 * d * d);
        memset(mean, 0, sizeof(double) * 2 * d);
        for (int64_t row = 0; row < m->height; row++) {
            /* The rows r of shifts that lay this row of the map into a region. */
            const int64_t from = row < rows ? 0 : row - rows + 1, to = row < R ? row : R - 1;
            for (int64_t a = 0; a < 2 * R; a++) {
                const double *left = maps + start[a] + row * width;
                double total = 0;
#pragma omp simd reduction(+ : total)
                for (int64_t j = 0; j < columns; j++) total += left[j];
                for (int64_t r = from; r <= to; r++) mean[place[a] + r * R] += total;
                for (int64_t below = 0; below < R && row + below < m->height; below++)
                    for (int64_t first = below ? 0 : a; first < 2 * R; first += 4) {
                        const double *right[4];
                        double products[4];
                        for (int64_t i = 0; i < 4; i++)
                            right[i] = maps + start[first + i < 2 * R ? first + i : first] + (row + below) * width;
                        four_products(left, right, columns, products);
                        /* The same product counts in every pair of shifts that lie so to each other. */
                        for (int64_t b = first; b < first + 4 && b < 2 * R; b++)
                            for (int64_t r = from; r <= to && r + below < R; r++)
                                sum[(place[a] + r * R) * 2 * d + place[b] + (r + below) * R] += products[b - first];
                    }
            }
        }
        for (int64_t i = 0; i < 2 * d; i++) mean[i] /= (double)(rows * columns);
        for (int64_t i = 0; i < 2 * d; i++)
            for (int64_t j = 0; j < 2 * d; j++) {
                /* Each pair was summed once: with the upper shift first, or the first of two in a row. */
                const int64_t row_i = i % d / R, row_j = j % d / R;
                if (row_i < row_j || (row_i == row_j && i <= j)) {
                    sum[i * 2 * d + j] -= (double)(rows * columns) * mean[i] * mean[j];
                    sum[j * 2 * d + i] = sum[i * 2 * d + j];
                }
            }
    }
    free(maps);
    return 0;
}

/* sum += of up to four rows, each times its weight. */
static inline void add_four(const double *weights, const double *maps, const int64_t *start, int64_t count,
                            int64_t length, double *sum) {
    const double *rows[4];
    double w[4];
    for (int64_t i = 0; i < 4; i++) {
        rows[i] = maps + start[i < count ? i : 0];
        w[i] = i < count ? weights[i] : 0.0;
    }
    const double *p = rows[0], *q = rows[1], *r = rows[2], *s = rows[3];
#pragma omp simd
    for (int64_t j = 0; j < length; j++) sum[j] += w[0] * p[j] + w[1] * q[j] + w[2] * r[j] + w[3] * s[j];
}

/* gradient [*, height, width], of the maps that `index` names: to each pixel, of all vectors that hold it, the weights'
   sums of all vectors. weights [count, d, 2d + 1] are for centred vectors and end with a constant. 1 if out of memory. */
int region_gradient(const void *probabilities, const void *truth, const int64_t *index, const Maps *m,
                    const double *weights, void *gradient, int64_t share, int64_t shares) {
    const int64_t R = m->region, d = R * R, size = m->height * m->width;
    const int64_t width = m->width, rows = m->height - R + 1, columns = width - R + 1;
    double *maps = malloc(sizeof(double) * (3 * size + columns) + sizeof(int64_t) * 2 * d);
    if (!maps) return 1;
    double *found = maps + 2 * size, *slope = found + size;
    int64_t *start = (int64_t *)(slope + columns); /* of a shift, in the maps */
    for (int64_t b = 0; b < 2 * d; b++) start[b] = b / d * size + b % d / R * width + b % R;
    for (int64_t n = share; n < m->count; n += shares) {
        const double *weight = weights + n * d * (2 * d + 1);
        centre(probabilities, truth, index[n], m, maps);
        memset(found, 0, sizeof(double) * size);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t a = 0; a < d; a++) {
                const double *w = weight + a * (2 * d + 1);
                for (int64_t j = 0; j < columns; j++) slope[j] = w[2 * d];
                for (int64_t b = 0; b < 2 * d; b += 4)
                    add_four(w + b, maps + row * width, start + b, 2 * d - b, columns, slope);
                double *out = found + start[a] + row * width;
                for (int64_t j = 0; j < columns; j++) out[j] += slope[j];
            }
        if (m->bytes == 4)
            for (int64_t i = 0; i < size; i++) ((float *)gradient)[index[n] * size + i] = (float)found[i];
        else
            memcpy((double *)gradient + index[n] * size, found, sizeof(double) * size);
    }
    free(maps);
    return 0;
}
