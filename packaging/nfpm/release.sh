#!/bin/sh
# Everything of a release in ./dist: packages of both variants and architectures, their checksums, and what is in the
# programs (CycloneDX), made from the same commit by whoever runs it.
set -eu
CYCLONEDX=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
rm -rf dist
mkdir -p dist
for ARCH in amd64 arm64; do
	for VARIANT in '' full; do
		export ARCH VARIANT
		sh packaging/nfpm/build.sh deb rpm
	done
done
go run "$CYCLONEDX" app -json -licenses=false -serial=false -main cmd/mxcert -output dist/mxcert.cdx.json .
rm -rf dist/root-*
(cd dist && sha256sum -- * >SHA256SUMS)
cat dist/SHA256SUMS
