# What flexmix reaches on data sets of flexmix and mixtools, for regimes.py.
#
#   Rscript tests/benchmarks/regimes.R FOLDER
#
# writes FOLDER/NAME.csv and FOLDER/reference.json: the best log-likelihood of 20 starts, tolerance
# 1e-8. It needs the packages flexmix, mixtools and jsonlite. The data sets are GPL: keep them out
# of the repository.

suppressMessages({library(flexmix); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
dir.create(folder, showWarnings = FALSE)
results <- list()

# FLXMRglm divides by n - p in its standard deviation; this one has the largest likelihood.
gaussian_ml <- function() {
  model <- FLXMRglm(family = "gaussian")
  define <- model@defineComponent
  model@fit <- function(x, y, w, component) {
    fit <- lm.wfit(x, y, w)
    sigma <- sqrt(sum(w * fit$residuals^2) / sum(w))
    define(list(coef = coef(fit), df = ncol(x) + 1, sigma = sigma))
  }
  model
}

best <- function(formula, table, k, model, gate, weights) {
  # A component of few rows is dropped where its standard deviation could go to 0.
  least <- if (model@family == "gaussian") 0.05 else 0
  control <- list(tolerance = 1e-8, iter.max = 1500, minprior = least)
  call <- list(formula, data = table, k = k, model = model, control = control)
  if (length(gate)) call$concomitant <- FLXPmultinom(reformulate(gate))
  if (!is.null(weights)) call$weights <- reformulate(weights)
  found <- NULL
  for (seed in seq_len(if (k == 1) 1 else 20)) {
    set.seed(seed)
    fit <- tryCatch(suppressWarnings(do.call(flexmix, call)), error = function(e) NULL)
    if (!is.null(fit) && fit@k == k && (is.null(found) || fit@logLik > found@logLik)) found <- fit
  }
  found
}

# `counts` are the columns of successes and failures. They are written as single trials, a group for
# every row unless `groups` is given; the likelihood of these lacks the binomial coefficients.
add <- function(name, file, table, target, experts, family, ks, gate = c(), groups = NULL,
                weights = NULL, counts = NULL) {
  left <- target
  if (family == "binomial") left <- sprintf("cbind(%1$s, 1 - %1$s)", target)
  written <- table
  constant <- 0
  if (!is.null(counts)) {
    left <- sprintf("cbind(%s, %s)", counts[1], counts[2])
    n <- rowSums(table[counts])
    constant <- sum(lchoose(n, table[[counts[1]]]))
    written <- cbind(row = seq_along(n), table)[rep(seq_along(n), n), ]
    trials <- Map(function(yes, no) rep(1:0, c(yes, no)), table[[counts[1]]], table[[counts[2]]])
    written[[target]] <- unlist(trials)
  }
  write.csv(written, file.path(folder, paste0(file, ".csv")), row.names = FALSE)
  right <- if (length(experts)) paste(experts, collapse = " + ") else "1"
  formula <- as.formula(paste(c(paste(left, "~", right), groups), collapse = " | "))
  models <- list(flexmix = FLXMRglm(family = family))
  if (family == "gaussian") models$ml <- gaussian_ml()
  for (k in ks) for (driver in names(models)) {
    fit <- best(formula, table, k, models[[driver]], gate, weights)
    if (is.null(fit)) next
    results[[length(results) + 1]] <<- list(
      name = name, file = file, target = target, experts = I(as.character(experts)),
      gate = I(as.character(gate)), groups = if (is.null(counts)) groups else groups %||% "row",
      weights = weights, family = family, k = k, driver = driver, constant = constant,
      logLik = fit@logLik, BIC = BIC(fit), df = fit@df
    )
    message(sprintf("%s, %s, k = %d: %.3f", name, driver, k, fit@logLik))
  }
}

flag <- function(x, level) as.integer(x == level)
data(list = c("NPreg", "patent", "NregFix", "BregFix", "betablocker", "Mehta", "seizure",
              "fabricfault", "salmonellaTA98", "candy", "dmft"), package = "flexmix")
data(list = c("tonedata", "NOdata"), package = "mixtools")

NPreg$x2 <- NPreg$x^2
add("NPreg yn", "NPreg", NPreg, "yn", c("x", "x2"), "gaussian", 1:2)
add("NPreg yn, gate", "NPreg", NPreg, "yn", c("x", "x2"), "gaussian", 2, gate = "x")
add("NPreg yn, groups", "NPreg", NPreg, "yn", c("x", "x2"), "gaussian", 2, groups = "id2")
add("NPreg yp", "NPreg", NPreg, "yp", "x", "poisson", 1:2)
add("NPreg yb, groups", "NPreg", NPreg, "yb", "x", "binomial", 1:2, groups = "id2")
add("tonedata", "tonedata", tonedata, "tuned", "stretchratio", "gaussian", 1:2)
add("tonedata, gate", "tonedata", tonedata, "tuned", "stretchratio", "gaussian", 2, "stretchratio")
add("patent", "patent", patent, "Patents", "lgRD", "poisson", 1:3)
add("patent, gate", "patent", patent, "Patents", "lgRD", "poisson", 3, gate = "RDS")
NregFix <- transform(NregFix, y = as.vector(y), x2 = flag(x2, "1"), w = flag(w, "1"))
add("NregFix", "NregFix", NregFix, "y", c("x1", "x2"), "gaussian", 2:3)
add("NregFix, gate", "NregFix", NregFix, "y", c("x1", "x2"), "gaussian", 2:3, gate = "w")
BregFix$w <- flag(BregFix$w, "1")
add("BregFix", "BregFix", BregFix, "y", "x", "binomial", 2:3, counts = c("yes", "no"))
add("BregFix, gate", "BregFix", BregFix, "y", "x", "binomial", 3, "w", counts = c("yes", "no"))
betablocker <- transform(betablocker, treated = flag(Treatment, "Treated"), alive = Total - Deaths)
add("betablocker", "betablocker", betablocker, "y", "treated", "binomial", 2:3, groups = "Center",
    counts = c("Deaths", "alive"))
Mehta <- transform(Mehta, control = flag(Drug, "Control"), no = Total - Response)
add("Mehta", "Mehta", Mehta, "y", "control", "binomial", 2:3, groups = "Site",
    counts = c("Response", "no"))
seizure <- transform(seizure, treated = flag(Treatment, "Yes"), log_day = log(Day),
                     log_hours = log(Hours))
seizure$both <- seizure$treated * seizure$log_day
add("seizure", "seizure", seizure, "Seizures", c("treated", "log_day", "both", "log_hours"),
    "poisson", 1:2)
fabricfault$log_length <- log(fabricfault$Length)
add("fabricfault", "fabricfault", fabricfault, "Faults", "log_length", "poisson", 1:3)
salmonellaTA98$log_x <- log(salmonellaTA98$x + 10)
add("salmonellaTA98", "salmonellaTA98", salmonellaTA98, "y", c("x", "log_x"), "poisson", 1:2)
add("candy", "candy", candy, "Packages", c(), "poisson", 1:3, weights = "Freq")
dmft <- transform(dmft, male = flag(Gender, "male"), log_begin = log(Begin + 0.5))
add("dmft", "dmft", dmft, "End", c("log_begin", "male"), "poisson", 1:2)
add("dmft, gate", "dmft", dmft, "End", "log_begin", "poisson", 2, gate = "log_begin")
add("NOdata", "NOdata", NOdata, "Equivalence", "NO", "gaussian", 1:2)
write_json(results, file.path(folder, "reference.json"), auto_unbox = TRUE, null = "null",
           digits = NA, pretty = TRUE)
