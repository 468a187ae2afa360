from posttrain_jax.reports.markdown import markdown_table


def test_a_table_has_a_line_for_each_row():
  expected = "| measure | base |\n| --- | --- |\n| `facts` | 0.5 |\n| `sums` | 1 |"
  assert markdown_table(["measure", "base"], [["`facts`", "0.5"], ["`sums`", "1"]]) == expected
