# A data frame of a chosen number of rows: sorted, joined, aggregated and reshaped. What is printed depends on that alone.
rows <- as.integer(commandArgs(trailingOnly = TRUE)[1])
set.seed(20240)
items <- data.frame(
  id = seq_len(rows),
  key = sample.int(rows %/% 20L, rows, replace = TRUE),
  price = runif(rows),
  group = sample(sprintf("group-%05d", 1:2000), rows, replace = TRUE)
)
keys <- data.frame(key = seq_len(rows %/% 20L), weight = rnorm(rows %/% 20L))
items$weight <- keys$weight[match(items$key, keys$key)]
ordered <- items[order(items$group, -items$price, method = "radix"), ]
means <- tapply(ordered$price, ordered$group, mean)
totals <- rowsum(ordered$price * ordered$weight, ordered$key)
shuffled <- ordered[sample.int(rows), ]
running <- cumsum(shuffled$price)
fit <- lm(price ~ weight, data = shuffled[seq_len(rows %/% 4L), ])
cat(sprintf("R: %d rows, %.10f %.10f %.8f\n", rows, sum(means), sum(abs(totals)), running[rows %/% 2L]))
cat(sprintf("%d %.10f %s\n", ordered$id[rows %/% 3L], coef(fit)[2], ordered$group[rows %/% 2L]))
