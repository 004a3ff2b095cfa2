package harness

const httpChildVariable = "X"

func runHTTPChild(string) int { return 0 }
