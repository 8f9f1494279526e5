module gpu-inference/binaries/pause

go 1.26.0
