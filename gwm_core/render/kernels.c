// The two hot kernels of kernels.py in C: the same loops, which a C compiler turns into better vector code.
// A call does every `step`-th tile from `first` on; each tile belongs to one call alone.
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TILE 16
#define AREA (TILE * TILE)
#define GROUP 16
#define ALPHA_MIN (1.0f / 255.0f)
#define ALPHA_MAX 0.999f
#define T_STOP 1e-4f
#define ALIGNED __attribute__((aligned(64)))

// 2^p for p in [-60, 0]: Chebyshev fit of degree 5 on (-1, 0], times the power of two set in the exponent bits
static inline float exp2_(float p) {
    int n = (int)p;
    float f = p - (float)n;
    float y = 0.00920626f + f * 0.00094719f;
    y = 0.24017435f + f * (0.05529137f + f * y);
    y = 0.99999988f + f * (0.69314206f + f * y);
    union { int i; float f; } power = {.i = (n + 127) << 23};
    return y * power.f;
}

static inline int lower(int a, int b) { return a < b ? a : b; }
static inline int higher(int a, int b) { return a > b ? a : b; }

void forward(const float *G, const float *features, const int64_t *off, const int32_t *ids, int tiles, int tiles_x,
             int width, int height, int first, int step, float *image, float *light, int64_t *last) {
    for (int tile = first; tile < tiles; tile += step) {
        int x0 = tile % tiles_x * TILE, y0 = tile / tiles_x * TILE;
        int w = lower(TILE, width - x0), h = lower(TILE, height - y0);
        float T[AREA] ALIGNED, live[AREA] ALIGNED, t[4][AREA] ALIGNED;
        memset(t, 0, sizeof t);
        for (int i = 0; i < AREA; i++) T[i] = live[i] = 1.0f;
        int64_t k = off[tile], end = off[tile + 1];
        while (k < end) {
            int64_t stop = k + GROUP < end ? k + GROUP : end;
            for (int64_t i = k; i < stop; i++) {
                const float *g = G + 8 * (int64_t)ids[i], *f = features + 4 * (int64_t)ids[i];
                float mx = g[0] - x0 - 0.5f, my = g[1] - y0 - 0.5f, A = g[2], B = g[3], C = g[4], o = g[5], ry = g[7];
                int top = higher(0, (int)ceilf(my - ry)), bottom = lower(h, (int)floorf(my + ry) + 1);
                for (int r = top; r < bottom; r++) {
                    float dy = r - my, c0 = C * dy * dy, c1 = B * dy;
                    int row = r * TILE;
#pragma omp simd simdlen(16)
                    for (int lane = 0; lane < TILE; lane++) {
                        int j = row + lane;
                        float dx = lane - mx, p = c0 + dx * (c1 + A * dx);
                        p = p < -60.0f ? -60.0f : p > 0.0f ? 0.0f : p;
                        float a = o * exp2_(p);
                        a = a > ALPHA_MAX ? ALPHA_MAX : a;
                        a = a < ALPHA_MIN ? 0.0f : a * live[j];
                        float before = T[j], after = before * (1.0f - a);
                        int ok = after > T_STOP;
                        float weight = ok ? a * before : 0.0f;
                        live[j] = ok ? live[j] : 0.0f;
                        T[j] = ok ? after : before;
                        t[0][j] += weight * f[0];
                        t[1][j] += weight * f[1];
                        t[2][j] += weight * f[2];
                        t[3][j] += weight * f[3];
                    }
                }
            }
            k = stop;
            float most = 0.0f;
            for (int r = 0; r < h; r++)
                for (int lane = 0; lane < w; lane++) most = live[r * TILE + lane] > most ? 1.0f : most;
            if (most == 0.0f) break;
        }
        last[tile] = k;
        for (int r = 0; r < h; r++)
            for (int lane = 0; lane < w; lane++) {
                int64_t pixel = (int64_t)(y0 + r) * width + x0 + lane;
                light[pixel] = T[r * TILE + lane];
                for (int c = 0; c < 4; c++) image[4 * pixel + c] = t[c][r * TILE + lane];
            }
    }
}

// sums (N, 10) of this call alone: moments of dL/dlog(alpha), then dL/dfeature; see _backward in kernels.py
void backward(const float *G, const float *features, const int64_t *off, const int32_t *ids, int tiles, int tiles_x,
              int width, int height, int first, int step, const float *image, const float *light, const int64_t *last,
              const float *d_image, const float *d_light, float *sums) {
    for (int tile = first; tile < tiles; tile += step) {
        int x0 = tile % tiles_x * TILE, y0 = tile / tiles_x * TILE;
        int w = lower(TILE, width - x0), h = lower(TILE, height - y0);
        float T[AREA] ALIGNED, live[AREA] ALIGNED, rest[AREA] ALIGNED, d[4][AREA] ALIGNED;
        memset(live, 0, sizeof live), memset(rest, 0, sizeof rest), memset(d, 0, sizeof d);
        for (int i = 0; i < AREA; i++) T[i] = 1.0f;
        for (int r = 0; r < h; r++)
            for (int lane = 0; lane < w; lane++) {
                int64_t pixel = (int64_t)(y0 + r) * width + x0 + lane;
                int j = r * TILE + lane;
                live[j] = 1.0f;
                rest[j] = d_light[pixel] * light[pixel];
                for (int c = 0; c < 4; c++) {
                    d[c][j] = d_image[4 * pixel + c];
                    rest[j] += d[c][j] * image[4 * pixel + c];
                }
            }
        for (int64_t i = off[tile]; i < last[tile]; i++) {
            const float *g = G + 8 * (int64_t)ids[i], *f = features + 4 * (int64_t)ids[i];
            float *out = sums + 10 * (int64_t)ids[i];
            float mx = g[0] - x0 - 0.5f, my = g[1] - y0 - 0.5f, A = g[2], B = g[3], C = g[4], o = g[5], ry = g[7];
            int top = higher(0, (int)ceilf(my - ry)), bottom = lower(h, (int)floorf(my + ry) + 1);
            float s[6][TILE] ALIGNED, share[4][TILE] ALIGNED;
            memset(s, 0, sizeof s), memset(share, 0, sizeof share);
            for (int r = top; r < bottom; r++) {
                float dy = r - my, c0 = C * dy * dy, c1 = B * dy;
                int row = r * TILE;
#pragma omp simd simdlen(16)
                for (int lane = 0; lane < TILE; lane++) {
                    int j = row + lane;
                    float dx = lane - mx, p = c0 + dx * (c1 + A * dx);
                    p = p < -60.0f ? -60.0f : p > 0.0f ? 0.0f : p;
                    float raw = o * exp2_(p), a = raw > ALPHA_MAX ? ALPHA_MAX : raw;
                    a = a < ALPHA_MIN ? 0.0f : a;
                    a *= live[j];
                    float before = T[j], after = before * (1.0f - a), ok = after > T_STOP ? 1.0f : 0.0f;
                    float weight = ok * a * before;
                    live[j] *= ok;
                    T[j] = before - weight;
                    float v = f[0] * d[0][j] + f[1] * d[1][j] + f[2] * d[2][j] + f[3] * d[3][j];
                    float left = rest[j] - weight * v;
                    rest[j] = left;
                    float slope = a * (before * v - left / (1.0f - a));
                    slope *= ok * (raw <= ALPHA_MAX ? 1.0f : 0.0f);  // a clamped alpha does not move
                    s[0][lane] += slope;
                    s[1][lane] += slope * dx;
                    s[2][lane] += slope * dy;
                    s[3][lane] += slope * dx * dx;
                    s[4][lane] += slope * dx * dy;
                    s[5][lane] += slope * dy * dy;
                    share[0][lane] += weight * d[0][j];
                    share[1][lane] += weight * d[1][j];
                    share[2][lane] += weight * d[2][j];
                    share[3][lane] += weight * d[3][j];
                }
            }
            for (int k = 0; k < 6; k++)
                for (int lane = 0; lane < TILE; lane++) out[k] += s[k][lane];
            for (int c = 0; c < 4; c++)
                for (int lane = 0; lane < TILE; lane++) out[6 + c] += share[c][lane];
        }
    }
}
