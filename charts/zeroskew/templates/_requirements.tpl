{{/*
What a value needs of a cluster: (list $ "raycluster.enabled" "ray.io/v1/RayCluster" "KubeRay …").
`helm template` knows no cluster, and then nothing is checked: only one that has the release's
namespace can say which kinds it has.
*/}}
{{- define "zeroskew.requires" -}}
{{- $root := index . 0 -}}
{{- if lookup "v1" "Namespace" "" $root.Release.Namespace -}}
{{- if not ($root.Capabilities.APIVersions.Has (index . 2)) -}}
{{- fail (printf "%s: this cluster does not have the kind %s: install %s first, or leave the value off" (index . 1) (index . 2) (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- end }}
