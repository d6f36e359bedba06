# The site profile of an R that was started ahead, before its program is there: attaches the default packages, then
# waits, and takes over arguments and environment. R finds its program afterwards as it does without us.
local({
  site <- file.path(R.home("etc"), "Rprofile.site")
  if (file.exists(site)) sys.source(site, envir = baseenv())
  .First.sys()
  # R itself closes no descriptor that it did not open; a library of its own has a function for that.
  pipe <- file("/proc/self/fd/3", "rb", raw = TRUE)
  library <- dyn.load(file.path(R.home("library"), "parallel", "libs", "parallel.so"))
  .Call(getNativeSymbolInfo("mc_close_fds", library), 3L)
  dyn.unload(library[["path"]])
  Sys.unsetenv("R_PROFILE")
  # No loop and no function of ours after this: R would first compile it, which takes longer than a program.
  texts <- readBin(pipe, character(), 1000L)
  close(pipe)
  count <- if (length(texts)) as.integer(texts[1L]) else 0L
  args <- texts[seq_len(count) + 1L]
  env <- texts[-seq_len(count + 1L)]
  if (length(env)) {
    at <- regexpr("=", env, fixed = TRUE)
    do.call(Sys.setenv, structure(as.list(substring(env, at + 1L)), names = substr(env, 1L, at - 1L)))
  }
  if (length(args)) {
    unlockBinding("commandArgs", baseenv())
    changed <- base::commandArgs
    body(changed)[[2L]][[3L]] <- c(changed(), "--args", args)
    assign("commandArgs", changed, envir = baseenv())
    lockBinding("commandArgs", baseenv())
  }
})
