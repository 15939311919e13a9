"""From labelled brain MRI to an honestly evaluated classifier, on nodes that can be taken away."""
