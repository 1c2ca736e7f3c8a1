#!/bin/sh
# packaging/nfpm/build.sh FORMAT… makes packages in $DIST (./dist): FORMAT is deb, rpm or tree (only lays out dist/root).
# ARCH (amd64), VARIANT ("" or full) and VERSION choose what. The result depends on the commit alone, byte for byte.
set -eu
NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
DIST=${DIST:-dist}
ARCH=${ARCH:-$(go env GOARCH)}
VARIANT=${VARIANT:-}
VERSION=${VERSION:-$(git describe --tags --match 'v*' 2>/dev/null | sed 's/^v//; s/-/+/; s/-/./g' || true)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
[ -n "$VERSION" ] || VERSION="0.0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(git rev-parse --short=8 HEAD 2>/dev/null || echo 0)"
DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)
MTIME=$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
NAME=mxcert${VARIANT:+-$VARIANT}
TAGS=grpcnotrace # see size_test.go
[ "$VARIANT" != full ] || TAGS=$TAGS,allproviders
ROOT=$DIST/root-$NAME-$ARCH
export ARCH VERSION SOURCE_DATE_EPOCH NAME ROOT MTIME
export LC_ALL=C TZ=UTC

rm -rf "$ROOT"
doc=$ROOT/usr/share/doc/$NAME
man=$ROOT/usr/share/man
install -d "$ROOT/usr/bin" "$ROOT/etc/mxcert" "$doc" "$man/man8"
LDFLAGS="-s -w -X main.release=$VERSION"
CGO_ENABLED=0 GOARCH=$ARCH go build -trimpath -buildvcs=false -tags "$TAGS" -ldflags "$LDFLAGS" -o "$ROOT/usr/bin/mxcert" ./cmd/mxcert

# As the program is built: then what it was compiled from is not compiled again. The pages are the same for both variants.
CGO_ENABLED=0 GOARCH= go run -trimpath -buildvcs=false -tags grpcnotrace ./packaging/man --date "$DATE" --version "$VERSION" "$man"
sed "s/@DATE@/$DATE/; s/@VERSION@/$VERSION/" packaging/man/mxcert.service.8 >"$man/man8/mxcert.service.8"
for page in mxcert-renew.timer mxcert-install.socket mxcert-install@.service mxcert-hook.socket mxcert-hook@.service system-mxcert.slice; do
	ln -s mxcert.service.8.gz "$man/man8/$page.8.gz"
done
install -d "$ROOT/usr/share/bash-completion/completions" "$ROOT/usr/share/zsh/vendor-completions" "$ROOT/usr/share/fish/vendor_completions.d"
# The completions come from a program that runs here.
tool=$DIST/tool-$NAME
CGO_ENABLED=0 GOARCH= go build -trimpath -buildvcs=false -tags "$TAGS" -ldflags "$LDFLAGS" -o "$tool" ./cmd/mxcert
"$tool" completion bash >"$ROOT/usr/share/bash-completion/completions/mxcert"
"$tool" completion zsh >"$ROOT/usr/share/zsh/vendor-completions/_mxcert"
"$tool" completion fish >"$ROOT/usr/share/fish/vendor_completions.d/mxcert.fish"
rm -f "$tool"

for unit in packaging/systemd/*.*; do
	case $unit in *.catalog) continue ;; esac
	install -D -m 0644 "$unit" "$ROOT/usr/lib/systemd/system/$(basename "$unit")"
done
# Debian's systemd and Fedora's notice the file (triggers) and compile the catalog.
install -D -m 0644 packaging/systemd/mxcert.catalog "$ROOT/usr/lib/systemd/catalog/mxcert.catalog"
install -D -m 0644 packaging/sysusers.d/mxcert.conf "$ROOT/usr/lib/sysusers.d/mxcert.conf"
install -D -m 0644 packaging/tmpfiles.d/mxcert.conf "$ROOT/usr/lib/tmpfiles.d/mxcert.conf"
install -m 0640 configs/mxcert.yaml "$ROOT/etc/mxcert/mxcert.yaml.example"
install -m 0644 README.md CHANGELOG.md packaging/nfpm/copyright "$doc/"
install -D -m 0644 packaging/hooks/mail-failure "$ROOT/usr/share/doc/mxcert/examples/mail-failure"
install -D -m 0644 packaging/hooks/certspotter "$ROOT/usr/share/doc/mxcert/examples/certspotter"
printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- mxcert developers <mxcert@example.org>  %s\n' \
	"$NAME" "$VERSION" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$doc/changelog"
install -D -m 0644 packaging/grafana/mxcert.json "$ROOT/usr/share/mxcert/grafana/mxcert.json"
install -D -m 0644 packaging/prometheus/alerts.yml "$ROOT/usr/share/mxcert/prometheus/alerts.yml"
find "$man" "$doc/changelog" -type f -exec gzip -9n {} +
find "$ROOT" -type d -exec chmod 0755 {} +
find "$ROOT/usr" -type f ! -path '*/bin/*' -exec chmod 0644 {} +
find "$ROOT" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

for format; do
	[ "$format" = tree ] && continue
	config=$DIST/nfpm-$NAME-$ARCH-$format.yaml
	sed "s|\${ROOT}|$ROOT|g; s|\${MTIME}|$MTIME|g" packaging/nfpm/nfpm.yaml >"$config"
	other=mxcert-full
	if [ "$VARIANT" = full ]; then
		other=mxcert
		echo 'provides: [mxcert]' >>"$config"
	fi
	echo "conflicts: [$other]" >>"$config"
	# In an RPM this is Obsoletes, and each update would exchange the two. There it is `dnf swap mxcert mxcert-full`.
	[ "$format" = rpm ] || echo "replaces: [$other]" >>"$config"
	if [ "$format" = deb ]; then
		install -d "$ROOT/usr/share/lintian/overrides"
		sed "s/^mxcert:/$NAME:/" packaging/nfpm/deb/lintian-overrides >"$ROOT/usr/share/lintian/overrides/$NAME"
		find "$ROOT/usr/share/lintian" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	fi
	GOARCH= go run "$NFPM" pkg -p "$format" -f "$config" -t "$DIST/"
	rm -rf "$config" "$ROOT/usr/share/lintian"
done
