"""A small system that no rule finds anything wrong with, made anew at each call so that tests may break it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sre.judges.manifests.objects import Manifests, parsed
from sre.judges.manifests.pods import Rule

_GOOD = """
apiVersion: v1
kind: Namespace
metadata: {name: ml-system, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: data, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: monitoring, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: ml-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-abcdef0123, namespace: ml-system}
data: {LEVEL: INFO}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web, namespace: ml-system}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web, namespace: ml-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: web}
subjects: [{kind: ServiceAccount, name: web, namespace: ml-system}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: ml-system}
spec:
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web, app.kubernetes.io/component: serving, track: stable}}
    spec:
      serviceAccountName: web
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      terminationGracePeriodSeconds: 30
      tolerations:
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          nodeTaintsPolicy: Honor
          labelSelector: {matchLabels: {app: web}}
      containers:
        - name: web
          image: registry.example.com/web:1.0
          imagePullPolicy: IfNotPresent
          ports: [{name: http, containerPort: 5000}]
          env: [{name: PASSWORD_FILE, value: /etc/password}]
          envFrom: [{configMapRef: {name: web-abcdef0123}}]
          resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: "1", memory: 128Mi}}
          startupProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, failureThreshold: 12}
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 2}
          livenessProbe:
            httpGet: {path: /, port: http}
            periodSeconds: 3
            timeoutSeconds: 2
            terminationGracePeriodSeconds: 1
          lifecycle: {preStop: {sleep: {seconds: 5}}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ml-system}
spec:
  selector: {app: web, role: primary}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: ml-system}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 3
  maxReplicas: 20
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}
    - {type: Resource, resource: {name: memory, target: {type: Utilization, averageUtilization: 80}}}
  behavior:
    scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 30}]}
    scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 300}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: ml-system}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny, namespace: ml-system}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: ml-system}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}}]
      ports: [{port: http}]
  egress:
    - ports: [{protocol: UDP, port: 53}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: fill, namespace: ml-system}
spec:
  ttlSecondsAfterFinished: 60
  activeDeadlineSeconds: 60
  template:
    metadata: {labels: {app: fill}}
    spec:
      serviceAccountName: web
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: fill
          image: registry.example.com/web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
          imagePullPolicy: IfNotPresent
          resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: "1", memory: 128Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: ml-system}
spec: {gatewayClassName: any, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: ml-system}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 80, weight: 100}]}]
---
apiVersion: velero.io/v1
kind: Schedule
metadata: {name: ml-daily, namespace: velero}
spec: {template: {includedNamespaces: [ml-system, data, monitoring], defaultVolumesToFsBackup: true, ttl: 168h}}
---
apiVersion: velero.io/v1
kind: Schedule
metadata: {name: ml-weekly, namespace: velero}
spec: {template: {includedNamespaces: [ml-system, data, monitoring], defaultVolumesToFsBackup: true, ttl: 672h}}
---
apiVersion: velero.io/v1
kind: Schedule
metadata: {name: ml-monthly, namespace: velero}
spec: {template: {includedNamespaces: [ml-system, data, monitoring], defaultVolumesToFsBackup: true, ttl: 8928h}}
"""


class System:
    """Objects by kind and name; what is taken out or changed is so in `manifests`."""

    def __init__(self) -> None:
        documents = yaml.safe_load_all(_GOOD)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {
            (one["kind"], f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}".lstrip("/")): one
            for one in documents
        }

    def __getitem__(self, key: tuple[str, str]) -> dict[str, Any]:
        kind, called = key
        return self.objects[kind, called if kind == "Namespace" or "/" in called else f"ml-system/{called}"]

    def remove(self, kind: str, called: str) -> None:
        """Take an object out."""
        del self.objects[kind, called if "/" in called else f"ml-system/{called}"]

    def add(self, text: str) -> None:
        """Put an object in, written as YAML."""
        one = yaml.safe_load(text)
        self.objects[one["kind"], f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"] = one

    @property
    def deployment(self) -> dict[str, Any]:
        """The specification of what serves."""
        spec: dict[str, Any] = self["Deployment", "web"]["spec"]
        return spec

    @property
    def pod(self) -> dict[str, Any]:
        """The specification of its pods."""
        spec: dict[str, Any] = self.deployment["template"]["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        """Its container."""
        container: dict[str, Any] = self.pod["containers"][0]
        return container

    @property
    def manifests(self) -> Manifests:
        """As the rules take them."""
        return parsed(self.objects.values())


def broken(rules: Mapping[str, Rule], system: System) -> set[str]:
    """The rules that find something."""
    manifests = system.manifests
    return {rule for rule, check in rules.items() if list(check(manifests))}


def cases(breaks: Mapping[str, Sequence[object]]) -> list[tuple[str, int]]:
    """Every way to break a rule: the rule, and which of its ways."""
    return [(rule, number) for rule, found in breaks.items() for number in range(len(found))]
