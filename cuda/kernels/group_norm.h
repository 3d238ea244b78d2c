// Normalisation within examples: sums of reduce.h over each group of each example, then everything place by place.
#pragma once
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

// Where element r of a group lies, and which group an element belongs to.
ESPALIER_KERNEL int64_t group_place(const GroupNorm& g, int64_t group, int64_t r) {
  const int64_t width = g.c / g.groups;
  return (group / g.groups * g.pixels + r / width) * g.c + group % g.groups * width + r % width;
}
ESPALIER_KERNEL int64_t group_at(const GroupNorm& g, int64_t i) {
  return i / (g.pixels * g.c) * g.groups + i % g.c / (g.c / g.groups);
}

struct GroupTerm {
  GroupNorm g;
  const float* x;
  ESPALIER_BODY float operator()(int64_t group, int64_t r) const { return x[group_place(g, group, r)]; }
};

struct GroupSquareTerm {
  GroupNorm g;
  const float *x, *mean;
  ESPALIER_BODY float operator()(int64_t group, int64_t r) const {
    const float d = x[group_place(g, group, r)] - mean[group];
    return d * d;
  }
};

struct GroupDeviation {
  float eps;
  float* rstd;
  ESPALIER_BODY void operator()(int64_t i) const { rstd[i] = 1 / sqrtf(rstd[i] + eps); }
};

struct GroupNormalise {
  GroupNorm g;
  const float *x, *gamma, *beta, *mean, *rstd;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t group = group_at(g, i), c = i % g.c;
    y[i] = (x[i] - mean[group]) * rstd[group] * (gamma ? gamma[c] : 1.f) + (beta ? beta[c] : 0.f);
  }
};

inline void group_norm(const GroupNorm& g, In x, In gamma, In beta, Out y, Out mean, Out rstd) {
  const int64_t groups = g.n * g.groups, count = g.pixels * g.c / g.groups;
  sum_terms<1>(GroupTerm{g, x.f32()}, groups, count, 1 / float(count), mean.f32());
  sum_terms<1>(GroupSquareTerm{g, x.f32(), mean.f32()}, groups, count, 1 / float(count), rstd.f32());
  launch_each(groups, GroupDeviation{g.eps, rstd.f32()});
  launch_each(y.numel, GroupNormalise{g, x.f32(), gamma.f32(), beta.f32(), mean.f32(), rstd.f32(), y.f32()});
}

// dy·gamma of a group's element, alone or times the normalised value.
struct GroupGradTerm {
  GroupNorm g;
  bool along;
  const float *x, *gamma, *mean, *rstd, *dy;
  ESPALIER_BODY float operator()(int64_t group, int64_t r) const {
    const int64_t i = group_place(g, group, r);
    const float t = dy[i] * (gamma ? gamma[i % g.c] : 1.f);
    return along ? t * ((x[i] - mean[group]) * rstd[group]) : t;
  }
};

struct GroupNormGrad {
  GroupNorm g;
  const float *x, *gamma, *mean, *rstd, *dy, *sum, *along;  // the last two: means over the group
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t group = group_at(g, i);
    const float hat = (x[i] - mean[group]) * rstd[group];
    dx[i] = rstd[group] * (dy[i] * (gamma ? gamma[i % g.c] : 1.f) - sum[group] - hat * along[group]);
  }
};

// Of channel c in row r of [n·pixels, c]: dy, or dy times the normalised value.
struct GroupChannelTerm {
  GroupNorm g;
  bool along;
  const float *x, *mean, *rstd, *dy;
  ESPALIER_BODY float operator()(int64_t c, int64_t r) const {
    const int64_t i = r * g.c + c, group = group_at(g, i);
    return along ? dy[i] * ((x[i] - mean[group]) * rstd[group]) : dy[i];
  }
};

inline void group_norm_grad(const GroupNorm& g, In x, In gamma, In mean, In rstd, In dy, Out dx, Out dgamma,
                            Out dbeta) {
  const int64_t groups = g.n * g.groups, count = g.pixels * g.c / g.groups;
  if (dx) {
    const Scratch sums(2 * groups);
    float *sum = sums.data(), *along = sums.data() + groups;
    const auto term = [&](bool with) {
      return GroupGradTerm{g, with, x.f32(), gamma.f32(), mean.f32(), rstd.f32(), dy.f32()};
    };
    sum_terms<1>(term(false), groups, count, 1 / float(count), sum);
    sum_terms<1>(term(true), groups, count, 1 / float(count), along);
    launch_each(dx.numel,
                GroupNormGrad{g, x.f32(), gamma.f32(), mean.f32(), rstd.f32(), dy.f32(), sum, along, dx.f32()});
  }
  const auto channel = [&](bool with) { return GroupChannelTerm{g, with, x.f32(), mean.f32(), rstd.f32(), dy.f32()}; };
  if (dgamma) sum_terms<32>(channel(true), g.c, g.n * g.pixels, 1, dgamma.f32());
  if (dbeta) sum_terms<32>(channel(false), g.c, g.n * g.pixels, 1, dbeta.f32());
}

}  // namespace espalier::ESPALIER_COLUMN
