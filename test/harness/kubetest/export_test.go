package kubetest

// Run runs a package's tests as Main does, in the process as it is.
func Run(tests interface{ Run() int }, pools ...*Pool) int { return (&main{tests, pools}).Run() }
