module zeroskew.dev/tests/servers/crds

go 1.26.0
