{{/* The ConfigMap that says where the stack is: the chart's own parts, then `endpoints`. */}}
{{- define "zeroskew.endpoints" -}}
{{- $said := .Values.endpoints -}}
{{- range $part, $key := dict "redis" "ZEROSKEW_REDIS" "mlflow" "ZEROSKEW_MLFLOW" "bucket" "AWS_ENDPOINT_URL" -}}
{{- if not (or (index $.Values $part).enabled (hasKey $said $key)) -}}
{{- fail (printf "%s.enabled is false: say in endpoints.%s where yours is" $part $key) -}}
{{- end -}}
{{- end -}}
{{- $map := include "zeroskew.text" (list . "endpoints/endpoints.yaml") | fromYaml -}}
{{- $own := list -}}
{{- if .Values.bucket.enabled }}{{ $own = append $own "dependencies/bucket" }}{{ end -}}
{{- if .Values.raycluster.enabled }}{{ $own = append $own "components/raycluster" }}{{ end -}}
{{- range $own -}}
{{- $component := include "zeroskew.text" (list $ (printf "%s/endpoint/kustomization.yaml" .)) | fromYaml -}}
{{- range $component.patches }}{{ $_ := mergeOverwrite $map.data (fromYaml .patch).data }}{{ end -}}
{{- end -}}
{{- range $key, $value := $said -}}
{{- if not (hasKey $map.data $key) }}{{ fail (printf "endpoints.%s is no key that a step or a server reads" $key) }}{{ end -}}
{{- $_ := set $map.data $key $value -}}
{{- end -}}
{{ toYaml $map }}
{{- end }}
