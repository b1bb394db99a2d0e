{{/*
The objects are those of manifests/, which lie below files/: what kustomize takes is the one truth,
and a template says only what a value changes in it.
*/}}

{{/* One of the platform's images, by its name in `images`: (list $ "operator"). */}}
{{- define "zeroskew.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $name := $image.repository -}}
{{- if $root.Values.imageRegistry }}{{ $name = printf "%s/%s" (trimSuffix "/" $root.Values.imageRegistry) $name }}{{ end -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The text of a file with this release's namespace, images and Secrets: (list $ "base/…"). */}}
{{- define "zeroskew.text" -}}
{{- $root := index . 0 -}}
{{- $text := $root.Files.Get (printf "files/%s" (index . 1)) -}}
{{- if not $text }}{{ fail (printf "the chart lacks files/%s" (index . 1)) }}{{ end -}}
{{- $text = $text | replace ".zeroskew.svc" (printf ".%s.svc" $root.Release.Namespace) -}}
{{- $text = regexReplaceAll "(?m)^( *)namespace: zeroskew$" $text (printf "${1}namespace: %s" $root.Release.Namespace) -}}
{{- range $name := list "operator" "platform" "trainer" -}}
{{- $text = regexReplaceAll (printf "(?m)image: zeroskew-%s$" $name) $text (printf "image: %s" (include "zeroskew.image" (list $root $name))) -}}
{{- end -}}
{{- $text = replace "name: zeroskew-redis, key" (printf "name: %s, key" $root.Values.redis.existingSecret) $text -}}
{{- replace "name: zeroskew-credentials, key" (printf "name: %s, key" $root.Values.credentials.existingSecret) $text -}}
{{- end }}

{{/* An object into a namespace, as one document of the output: (dict "object" … "namespace" …). */}}
{{- define "zeroskew.document" -}}
{{- $cluster := list "ClusterRole" "ClusterRoleBinding" "CustomResourceDefinition" "ClusterStorageContainer" -}}
{{- if not (has .object.kind $cluster) }}{{ $_ := set .object.metadata "namespace" .namespace }}{{ end -}}
---
{{ toYaml .object }}
{{ end }}

{{/* All objects of files, unchanged: (dict "root" $ "files" (list …) "namespace" "…"). */}}
{{- define "zeroskew.documents" -}}
{{- $namespace := .namespace | default .root.Release.Namespace -}}
{{- $policies := .root.Values.networkPolicies.enabled -}}
{{- range $file := .files -}}
{{- range $part := regexSplit "(?m)^---$" (include "zeroskew.text" (list $.root $file)) -1 -}}
{{- $object := fromYaml $part -}}
{{- if $object.Error }}{{ fail (printf "files/%s: %s" $file $object.Error) }}{{ end -}}
{{- if or $policies (ne $object.kind "NetworkPolicy") -}}
{{ include "zeroskew.document" (dict "object" $object "namespace" $namespace) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What values say of a pod, set in its spec: (dict "root" $ "pod" … "values" …). */}}
{{- define "zeroskew.place" -}}
{{- $values := .values -}}
{{- range $container := .pod.containers -}}
{{- $_ := set $container "imagePullPolicy" $.root.Values.imagePullPolicy -}}
{{- if $values.resources }}{{ $_ := set $container "resources" $values.resources }}{{ end -}}
{{- if $values.image }}{{ $_ := set $container "image" $values.image }}{{ end -}}
{{- end -}}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with index $values $name }}{{ $_ := set $.pod $name . }}{{ end -}}
{{- end -}}
{{- with .root.Values.imagePullSecrets }}{{ $_ := set $.pod "imagePullSecrets" . }}{{ end -}}
{{- end }}

{{/* What values say of a claim: (dict "claim" … "storage" …). */}}
{{- define "zeroskew.claim" -}}
{{- with .storage.size }}{{ $_ := set $.claim.spec.resources.requests "storage" . }}{{ end -}}
{{- with .storage.className }}{{ $_ := set $.claim.spec "storageClassName" . }}{{ end -}}
{{- end }}
