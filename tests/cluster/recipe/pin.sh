#!/usr/bin/env bash
# Pin the test cluster's parts anew: pin.sh KUBERNETES ETCD KWOK CONTAINERD,
# e.g. pin.sh v1.36.3 v3.6.16 v0.8.0 v2.2.9.
# Writes */go.mod and */go.sum beside it. Edit kubectl.txt and go.txt by hand, with hashes.
set -euo pipefail
cd "$(dirname "$0")"
module() { # PART MODULE VERSION TOOL...: a module of ours whose tools are what is to be built
  rm -f "$1/go.sum"
  printf 'module aicsweep.dev/tests/cluster/%s\n\ngo 1.26.0\n\n' "$1" > "$1/go.mod"
  printf 'tool (\n%s\n)\n\nrequire %s %s\n\n' "$(printf '\t%s\n' "${@:4}")" "$2" "$3" >> "$1/go.mod"
}
module etcd go.etcd.io/etcd/server/v3 "$2" go.etcd.io/etcd/server/v3
module kwok sigs.k8s.io/kwok "$3" sigs.k8s.io/kwok/cmd/kwok
module kubernetes k8s.io/kubernetes "$1" k8s.io/kubernetes/cmd/kube-{apiserver,controller-manager,scheduler}
# Only real nodes need these two: modules of their own, so that simulated ones wait for neither.
module kubelet k8s.io/kubernetes "$1" k8s.io/kubernetes/cmd/kubelet
module containerd github.com/containerd/containerd/v2 "$4" \
  github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
# Programs of our own.
module helpers k8s.io/kubelet "v0.${1#v1.}" aicsweep.dev/tests/cluster/helpers/{pause,device-plugin}
# Kubernetes' own go.mod takes its libraries from folders that the module does not hold; they are published
# with the same minor and patch number.
gomod=$(cd "$(mktemp -d)" && go mod download -json "k8s.io/kubernetes@$1" | sed -nE 's/.*"GoMod": "(.*)",?/\1/p')
replacements=$(
  echo 'godebug default=go1.26'
  echo 'replace ('
  sed -nE "s#.*\s(k8s.io/[a-z-]+) => \./staging/.*#\t\1 => \1 v0.${1#v1.}#p" "$gomod"
  echo ')'
)
for part in kubernetes kubelet; do echo "$replacements" >> "$part/go.mod"; done
for part in etcd kwok kubernetes kubelet containerd helpers; do (cd "$part" && go mod tidy); done
