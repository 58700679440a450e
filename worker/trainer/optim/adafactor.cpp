#include "worker/trainer/optim/adafactor.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cmath>

namespace liger::trainer {
namespace {

constexpr char kRow[] = "exp_avg_sq_row";
constexpr char kColumn[] = "exp_avg_sq_col";
constexpr char kWhole[] = "exp_avg_sq";
constexpr double kEpsilon = 1e-30;
constexpr double kClipThreshold = 1;
constexpr double kDecayRate = -0.8;

// mean <- beta * mean + (1 - beta) * value
void Average(at::Tensor mean, const at::Tensor& value, double beta) {
  mean.mul_(beta).add_(value, 1 - beta);
}

std::vector<int64_t> ShapeOf(const TrainableParameters::Entry& entry) {
  return entry.part ? entry.part->shape : entry.storage.sizes().vec();
}

// A parameter [..., R, C] as rows of several matrices.
struct MatrixShape {
  explicit MatrixShape(const std::vector<int64_t>& shape)
      : rows(shape[shape.size() - 2]),
        columns(shape.back()),
        matrices(c10::multiply_integers(shape) / std::max<int64_t>(1, rows * columns)) {}

  int64_t rows, columns, matrices;
  int64_t all_rows() const { return matrices * rows; }
};

// What a rank has of those rows: [begin, begin + n), zeros in the place of the elements that other
// ranks have of the first and the last one.
struct OwnRows {
  OwnRows(const TrainableParameters::Entry& entry, const at::Tensor& elements)
      : shape(ShapeOf(entry)), count(elements.numel()) {
    const int64_t first = entry.part ? entry.part->begin : 0;
    begin = first / shape.columns;
    lead = first - begin * shape.columns;
    const int64_t n = (lead + count + shape.columns - 1) / shape.columns;
    const int64_t behind = n * shape.columns - lead - count;
    at::Tensor flat = elements.reshape({-1});
    if (lead + behind > 0) flat = at::constant_pad_nd(flat, {lead, behind});
    values_NC = flat.view({n, shape.columns});
  }

  // Calls `use` with each matrix that they are of, and its rows among them, [from, to).
  template <typename Use>
  void ForEachMatrix(const Use& use) const {
    const int64_t end = begin + values_NC.size(0);
    for (int64_t m = begin / shape.rows; m * shape.rows < end; ++m) {
      use(m, std::max(begin, m * shape.rows) - begin,
          std::min(end, (m + 1) * shape.rows) - begin);
    }
  }
  // This rank's elements of something like values_NC.
  at::Tensor Elements(const at::Tensor& like_NC) const {
    return like_NC.view({-1}).narrow(0, lead, count);
  }

  const MatrixShape shape;
  const int64_t count;
  int64_t begin = 0, lead = 0;
  at::Tensor values_NC;
};

// u of this rank's elements, which `grad` is, as they lie behind each other.
at::Tensor Direction(const TrainableParameters::Entry& entry, const at::Tensor& grad,
                     const std::map<std::string, at::Tensor>& states) {
  if (ShapeOf(entry).size() < 2) return states.at(kWhole).rsqrt().mul_(grad).view({-1});
  const OwnRows rows(entry, grad);
  const at::Tensor& row = states.at(kRow);
  const at::Tensor row_factor = (row / row.mean(-1, /*keepdim=*/true)).rsqrt_().view({-1, 1});
  const at::Tensor column_factor_MC = states.at(kColumn).rsqrt().view({-1, rows.shape.columns});
  const at::Tensor update_NC = at::empty_like(rows.values_NC);
  rows.ForEachMatrix([&](int64_t matrix, int64_t from, int64_t to) {
    at::Tensor own = update_NC.slice(0, from, to);
    at::mul_out(own, row_factor.slice(0, rows.begin + from, rows.begin + to),
                column_factor_MC[matrix]);
    own.mul_(rows.values_NC.slice(0, from, to));
  });
  return rows.Elements(update_NC);
}

}  // namespace

AtenOptimizer::States Adafactor::MakeStates(const Entry& entry, at::Device device) const {
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  std::vector<int64_t> shape = ShapeOf(entry);
  if (shape.size() < 2) return {{kWhole, at::zeros(entry.storage.sizes(), options)}};
  const int64_t columns = shape.back();
  shape.pop_back();
  States states = {{kRow, at::zeros(shape, options)}};
  shape.back() = columns;
  states[kColumn] = at::zeros(shape, options);
  return states;
}

void Adafactor::UpdateStates(const std::vector<at::Tensor>& grads, double scale) {
  const auto& entries = parameters().entries();
  // Of each entry: how many ranks have a gradient, and of a matrix the squares' sums of all rows
  // and of all columns.
  std::vector<int64_t> begins, sizes;
  int64_t end = 0;
  for (const Entry& entry : entries) {
    const std::vector<int64_t> dims = ShapeOf(entry);
    int64_t size = 1;
    if (dims.size() >= 2) {
      const MatrixShape shape(dims);
      size += shape.all_rows() + shape.matrices * shape.columns;
    }
    begins.push_back(end);
    sizes.push_back(size);
    end += size;
  }
  const at::Tensor sums =
      at::zeros({end}, entries[0].storage.options().dtype(at::kDouble).requires_grad(false));
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!grads[i].defined()) continue;
    const at::Tensor own = sums.narrow(0, begins[i], sizes[i]);
    own.narrow(0, 0, 1).fill_(1);
    if (sizes[i] == 1) continue;
    const OwnRows rows(entries[i], grads[i].to(at::kFloat));
    const at::Tensor squares_NC = rows.values_NC.square();
    own.narrow(0, 1 + rows.begin, squares_NC.size(0)).copy_(squares_NC.sum(1));
    const at::Tensor columns_MC =
        own.slice(0, 1 + rows.shape.all_rows()).view({-1, rows.shape.columns});
    rows.ForEachMatrix([&](int64_t matrix, int64_t from, int64_t to) {
      columns_MC[matrix].copy_(squares_NC.slice(0, from, to).sum(0));
    });
  }
  parameters().SumOverParts(sums, "the squares of adafactor's rows and columns");
  const at::Tensor having =
      sums.index_select(0, at::tensor(begins, at::kLong).to(sums.device())).cpu();
  const double beta = 1 - std::pow(double(step_count()), kDecayRate);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (having[static_cast<int64_t>(i)].item<double>() == 0) continue;
    if (sizes[i] == 1) {  // a vector, or nothing of one
      if (!grads[i].defined()) continue;
      const at::Tensor grad = grads[i].to(at::kFloat) * scale;
      Average(states(i).at(kWhole), grad.square().add_(kEpsilon), beta);
      continue;
    }
    const MatrixShape shape(ShapeOf(entries[i]));
    const auto average = [&](const char* kind, int64_t begin, int64_t over) {
      const at::Tensor& mean = states(i).at(kind);
      const at::Tensor own = sums.narrow(0, begins[i] + begin, mean.numel());
      Average(mean.view({-1}),
              (own * (scale * scale / double(over))).add_(kEpsilon).to(at::kFloat), beta);
    };
    average(kRow, 1, shape.columns);
    average(kColumn, 1 + shape.all_rows(), shape.rows);
  }
}

void Adafactor::PrepareUpdates(const std::vector<at::Tensor>& grads, double scale) {
  UpdateStates(grads, scale);
  const auto& entries = parameters().entries();
  rms_ = at::Tensor();
  if (!entries[0].part) return;
  rms_ = at::zeros({std::ssize(entries)},
                   entries[0].storage.options().dtype(at::kDouble).requires_grad(false));
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!grads[i].defined()) continue;
    const at::Tensor norm = Direction(entries[i], grads[i].to(at::kFloat), states(i)).norm();
    rms_.narrow(0, int64_t(i), 1).copy_(norm.to(at::kDouble).mul_(scale).square_());
  }
  parameters().SumOverParts(rms_, "the squares of adafactor's updates");
  for (size_t i = 0; i < entries.size(); ++i) {
    rms_.narrow(0, int64_t(i), 1).div_(double(entries[i].whole_numel())).sqrt_();
  }
}

void Adafactor::Update(const Entry& entry, at::Tensor param, const at::Tensor& grad,
                       double learning_rate, States& states) {
  const at::Tensor update = Direction(entry, grad, states);
  const at::Tensor rms = rms_.defined() ? rms_[&entry - parameters().entries().data()]
                                        : update.norm() / std::sqrt(double(update.numel()));
  update.div_(rms.div(kClipThreshold).clamp_min_(1));
  if (weight_decay_ > 0 && entry.decay) param.mul_(1 - learning_rate * weight_decay_);
  param.add_(update.view_as(param), -learning_rate);
}

}  // namespace liger::trainer
