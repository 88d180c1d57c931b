"use strict"
{
  const goals = { time_ms: "least time", peak_memory_mib: "least memory", roc_auc: "highest accuracy (ROC-AUC)" }
  const { rows, scores, labels } = JSON.parse(document.getElementById("picker-data").textContent)
  const select = Object.fromEntries(["task", "split", "x", "goal"].map((name) => [name, document.getElementById(`pick-${name}`)]))
  const output = document.querySelector("#picker output")
  const beside = document.getElementById("picker-table")
  const EVENTS = "4096" // picked first where it was measured
  const unit = { ms: "ms", seconds: "s", mib: "MiB" }
  const unitOf = (metric) => unit[metric.split("_").pop()] ?? ""
  const wordsOf = (metric) => metric.replace(/_(ms|seconds|mib)$/, "").replaceAll("_", " ")
  const number = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(3)).toString())
  const capital = (words) => words[0].toUpperCase() + words.slice(1)
  const distinct = (values) => [...new Set(values)]

  const offer = (box, values, text) => {
    const before = box.value
    box.replaceChildren(...values.map((value) => new Option(text(value), value)))
    const wanted = before || (box === select.x ? EVENTS : "")
    if (values.map(String).includes(wanted)) box.value = wanted
    box.closest("label").hidden = values.length < 2
  }

  const update = () => {
    offer(select.task, distinct(rows.map((row) => row[0])), String)
    const ofTask = rows.filter((row) => row[0] === select.task.value)
    offer(select.split, distinct(ofTask.map((row) => row[1])), (value) => (value === "-" ? "default" : value))
    const ofSplit = ofTask.filter((row) => row[1] === select.split.value)
    offer(select.x, distinct(ofSplit.map((row) => row[2])).sort((a, b) => a - b), (value) => value.toLocaleString("en"))
    const measured = ofSplit.filter((row) => String(row[2]) === select.x.value)
    const metrics = Object.keys(goals).filter((goal) => measured.some((row) => row[3] === goal))
    offer(select.goal, [...metrics, ...(Object.keys(scores).length ? ["roc_auc"] : [])], (goal) => goals[goal])
    recommend(measured, metrics)
  }

  const recommend = (measured, metrics) => {
    const goal = select.goal.value
    const models = distinct(measured.map((row) => row[4])).map((model) => ({
      model,
      values: Object.fromEntries(measured.filter((row) => row[4] === model).map((row) => [row[3], row[5]])),
      score: scores[model],
    }))
    const rank = (entry) => (goal === "roc_auc" ? -(entry.score?.[0] ?? -Infinity) : (entry.values[goal] ?? Infinity))
    models.sort((a, b) => rank(a) - rank(b))
    const [best, second] = models
    if (!best || !Number.isFinite(rank(best))) { output.replaceChildren("Nothing was measured for this choice."); beside.replaceChildren(); return }
    const sentence = document.createElement("p")
    const name = document.createElement("b")
    name.textContent = labels[best.model]
    const fused = models.find((entry) => entry.model === "softmax")
    const other = fused && fused !== best && goal !== "roc_auc" ? fused : second
    sentence.append("Take ", name, reason(best, second, other, goal, rank))
    output.replaceChildren(sentence)
    beside.replaceChildren(table(models, metrics))
  }

  // Intervals that overlap, of a score or of a measured time, mean that nothing was decided.
  const bounds = (entry, goal) => (goal === "roc_auc" ? entry.score?.slice(1) : [entry.values[`${goal}_low`], entry.values[`${goal}_high`]])
  const overlapping = (one, other, goal) => {
    const [a, b] = [bounds(one, goal) ?? [], bounds(other, goal) ?? []]
    return [...a, ...b].every(Number.isFinite) && a.length + b.length === 4 && a[0] <= b[1] && b[0] <= a[1]
  }

  const reason = (best, second, other, goal, rank) => {
    const length = Number(select.x.value).toLocaleString("en")
    if (!second || !Number.isFinite(rank(second))) return `: the only one measured at ${length} events.`
    const next = labels[second.model]
    if (overlapping(best, second, goal)) return ` or ${next}: their intervals overlap, so let something else decide.`
    if (goal === "roc_auc") return `: its ROC-AUC is above that of the next, ${next}.`
    if (!(rank(second) / rank(best) >= 1.05)) return ` or ${next}: at ${length} events they need about the same ${wordsOf(goal)}.`
    const factor = Number((rank(other) / rank(best)).toPrecision(2)).toLocaleString("en")
    return `: ${factor} times ${goal === "time_ms" ? "faster than" : "less memory than"} ${labels[other.model]} at ${length} events.`
  }

  const table = (models, metrics) => {
    const scored = Object.keys(scores).length > 0
    const box = document.createElement("div")
    box.className = "scroll"
    const grid = box.appendChild(document.createElement("table"))
    const head = grid.createTHead().insertRow()
    const add = (row, tag, text, scope) => {
      const cell = row.appendChild(document.createElement(tag))
      cell.textContent = text
      if (scope) cell.scope = scope
      if (row.cells.length > 1) cell.className = "number"
    }
    for (const text of ["Model", ...metrics.map((metric) => `${capital(wordsOf(metric))}, ${unitOf(metric)}`), ...(scored ? ["ROC-AUC"] : [])]) add(head, "th", text, "col")
    const body = grid.createTBody()
    for (const { model, values, score } of models) {
      const row = body.insertRow()
      add(row, "th", labels[model], "row")
      for (const metric of metrics) add(row, "td", metric in values ? number(values[metric]) : "–")
      if (scored) add(row, "td", score?.[0] ? score[0].toFixed(3) : "–")
    }
    return box
  }

  document.getElementById("picker-fallback").remove()
  document.querySelector("#picker .choices").hidden = false
  for (const box of Object.values(select)) box.addEventListener("change", update)
  update()
}
