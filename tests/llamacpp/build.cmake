# Read by the build of llama-cpp-python after its `project` (`make test-llamacpp`). The binding needs nothing of
# this library of llama.cpp's own programs, which takes longer to build than all else, and would force it on.
set(LLAMA_BUILD_COMMON OFF)
