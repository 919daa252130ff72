"""Files of objectives for tests, each of which may be changed in one place."""

from __future__ import annotations

from pathlib import Path

OURS = Path(__file__).parents[3] / "experiments" / "slo.yaml"

LATENCY = """\
apiVersion: openslo/v1
kind: Service
metadata: {name: shop}
spec: {description: Sells things.}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: fast}
spec:
  ratioMetric:
    counter: true
    good:
      metricSource: {type: Prometheus, spec: {query: 'sum(order_seconds_bucket{le="2"})'}}
    total:
      metricSource: {type: Prometheus, spec: {query: 'sum(order_seconds_count)'}}
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: order-latency
  labels: {team.name: shop, tier: [gold, web]}
spec:
  description: Orders take at most two seconds.
  service: shop
  indicatorRef: fast
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives:
    - targetPercent: 99.5
"""

SLICES = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout}
spec:
  service: shop
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource: {type: Prometheus, spec: {query: 'sum(rate(requests_total{code!~"5.."}[{{.window}}]))'}}
        total:
          metricSource: {type: Prometheus, spec: {query: 'sum(rate(requests_total[{{.window}}]))'}}
  timeWindow:
    - duration: 1Q
      isRolling: false
      calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Berlin}
  budgetingMethod: Timeslices
  objectives:
    - target: 0.99
      timeSliceTarget: 0.95
      timeSliceWindow: 1m
"""

THRESHOLD = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: replication-lag}
spec:
  service: shop
  indicator:
    metadata: {name: lag}
    spec:
      thresholdMetric:
        metricSource: {type: Prometheus, spec: {query: 'max(replication_lag_seconds{job="db"})'}}
  timeWindow: [{duration: 7d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives:
    - op: lte
      value: 10
      target: 0.99
  alertPolicies:
    - alertPolicyRef: slow-burn
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: slow-burn}
spec:
  conditions: [{conditionRef: three-times}]
  notificationTargets: [{targetRef: on-call}]
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: three-times}
spec:
  severity: ticket
  condition: {kind: burnrate, op: gt, threshold: 3, lookbackWindow: 2h, alertAfter: 10m}
"""

SLOTH = """\
version: prometheus/v1
service: mailer
labels: {owner: post}
slos:
  - name: delivery
    objective: 99.9
    description: Letters are delivered.
    sli:
      events:
        error_query: sum(rate(letters_total{outcome=~"(lost|torn)"}[{{.window}}])) or vector(0)
        total_query: sum(rate(letters_total[{{.window}}]))
    alerting:
      name: LettersLost
      annotations: {team: post}
      page_alert: {labels: {severity: critical}}
      ticket_alert: {disable: true}
  - name: uptime
    objective: 99
    sli:
      raw: {error_ratio_query: '1 - avg(avg_over_time(up{job="mailer"}[{{.window}}]))'}
    alerting: {name: MailerDown}
"""
